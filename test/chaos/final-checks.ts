import { createHash } from 'node:crypto';
import { asGroupId, asOffset, systemClock, systemScheduler, type Offset } from '#kernel';
import { nodeFileSystem, openPartitionLog, verifyDataDirectory, type GroupReport } from '#storage';
import { batchLastOffset, forEachBatch } from '#wire';
import { checkLinearizability } from '../support/linearizability.js';
import type { ChaosClient } from './chaos-client.js';
import { SEGMENT_BYTES, type ChaosCluster, type ChaosNode } from './chaos-cluster.js';
import { Countdown } from './countdown.js';
import type { History } from './history.js';
import { LEASE_TOPIC } from './lease-load.js';
import type { LoggedLease } from './lease-checks.js';
import {
  RECORD_PARTITIONS,
  RECORD_TOPIC,
  textOf,
  type Producer,
  type RecordJson,
  type SeenRecord,
  type TopicReader,
} from './record-load.js';

const CONVERGED_MS_MAX = 90_000;
const POLL_MS = 100;
const PAGE_RECORDS = 2000;

/** What is wrong; empty for nothing. */
export type Findings = readonly string[];

/* ---- views ---- */

interface ViewPartition {
  readonly partition: number;
  readonly offset: number;
  readonly commitOffset: number;
  readonly digest: string;
  readonly entries: number;
}

interface Views {
  readonly views: readonly { readonly view: string; readonly partitions: readonly ViewPartition[] }[];
}

export interface ConvergedPartition {
  readonly view: string;
  readonly partition: number;
  readonly offset: number;
  readonly digest: string;
}

/** Waits until all nodes' views stand at the same offsets, which are those of the log. */
export const convergedViews = async (
  cluster: ChaosCluster,
): Promise<{ readonly partitions: readonly ConvergedPartition[]; readonly findings: Findings }> => {
  const countdown = new Countdown(CONVERGED_MS_MAX);
  for (;;) {
    const described = await Promise.all(cluster.nodes.map((node) => viewsOf(node)));
    const lagging = described.flatMap((partitions, i) =>
      partitions.length > 0
        ? lagOf(partitions, described[0], cluster.nodes[i].name)
        : [`${cluster.nodes[i].name}: no views`],
    );
    if (lagging.length === 0) {
      const findings = described.flatMap((partitions, i) =>
        partitions
          .filter(({ digest }, p) => digest !== described[0][p].digest)
          .map(
            ({ view, partition, offset, digest }) =>
              `${view}/${partition} at ${offset}: digest ${digest} on ${cluster.nodes[i].name} is not that of ${cluster.nodes[0].name}`,
          ),
      );
      return { partitions: described[0], findings };
    }
    if (countdown.isOver)
      return { partitions: described[0], findings: [`views did not converge in ${CONVERGED_MS_MAX} ms`, ...lagging] };
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
};

const viewsOf = async (node: ChaosNode): Promise<(ConvergedPartition & { readonly commitOffset: number })[]> => {
  try {
    const { views } = await node.getJson<Views>('/v1/views');
    return views
      .flatMap(({ view, partitions }) => partitions.map((partition) => ({ ...partition, view })))
      .sort((a, b) => (a.view === b.view ? a.partition - b.partition : a.view < b.view ? -1 : 1));
  } catch {
    return [];
  }
};

const lagOf = (
  partitions: readonly (ConvergedPartition & { readonly commitOffset: number })[],
  first: readonly ConvergedPartition[],
  name: string,
): Findings =>
  partitions
    .filter(({ offset, commitOffset }, i) => offset !== commitOffset || offset !== first[i]?.offset)
    .map(
      ({ view, partition, offset, commitOffset }) =>
        `${name}: ${view}/${partition} stands at ${offset} of ${commitOffset}`,
    );

/* ---- records ---- */

interface RecordsPage<T> {
  readonly records: readonly T[];
  readonly nextOffset: number;
}

/** All records of a partition, read through one node. */
const pagesOf = async <T>(
  node: ChaosNode,
  { topic, partition }: { readonly topic: string; readonly partition: number },
  end: number,
): Promise<T[]> => {
  const records: T[] = [];
  for (let from = 1; from <= end;) {
    const page = await node.getJson<RecordsPage<T>>(
      `/v1/topics/${topic}/records?partition=${partition}&from=${from}&limit=${PAGE_RECORDS}`,
      30_000,
    );
    records.push(...page.records);
    if (page.nextOffset <= from) break;
    from = page.nextOffset;
  }
  return records;
};

const recordsOf = async (node: ChaosNode, partition: number, end: number): Promise<SeenRecord[]> => {
  const records = await pagesOf<RecordJson>(node, { topic: RECORD_TOPIC, partition }, end);
  return records.map((record) => ({ offset: record.offset, value: textOf(record) }));
};

/** The log of what expires. */
export const leasesOf = (cluster: ChaosCluster, converged: readonly ConvergedPartition[]): Promise<LoggedLease[]> =>
  pagesOf(
    cluster.nodes[0],
    { topic: LEASE_TOPIC, partition: 0 },
    converged.find(({ view }) => view === LEASE_TOPIC)?.offset ?? 0,
  );

const digestOf = (records: readonly SeenRecord[]): string => {
  const hash = createHash('sha256');
  for (const { offset, value } of records) hash.update(`${offset} ${value}\n`);
  return hash.digest('hex');
};

/** Reads the topic through every node and compares it with what producers were told and with what the tails have seen. */
export const checkRecords = async (
  cluster: ChaosCluster,
  converged: readonly ConvergedPartition[],
  producers: readonly Producer[],
  readers: readonly TopicReader[],
): Promise<{
  readonly records: number;
  readonly logs: Findings;
  readonly producers: Findings;
  readonly tails: readonly Findings[];
}> => {
  const logs: string[] = [];
  const tails = readers.map(({ problems }) => [...problems]);
  const partitions: SeenRecord[][] = [];
  for (let partition = 0; partition < RECORD_PARTITIONS; partition++) {
    const end = converged.find((each) => each.view === RECORD_TOPIC && each.partition === partition)?.offset ?? 0;
    const [first, ...rest] = cluster.nodes;
    const records = await recordsOf(first, partition, end);
    const digest = digestOf(records);
    partitions.push(records);
    for (const node of rest) {
      const theirs = await recordsOf(node, partition, end);
      if (digestOf(theirs) !== digest)
        logs.push(
          `${RECORD_TOPIC}/${partition}: ${theirs.length} records on ${node.name} differ from ${records.length} on ${first.name}`,
        );
    }
    for (const [i, reader] of readers.entries()) tails[i].push(...(await checkTail(reader, partition, records)));
  }
  return {
    records: partitions.reduce((sum, records) => sum + records.length, 0),
    logs,
    producers: producers.flatMap((producer) => checkProducer(producer, partitions)),
    tails,
  };
};

const checkTail = async (reader: TopicReader, partition: number, records: readonly SeenRecord[]): Promise<Findings> => {
  const seen = reader.seen[partition];
  const countdown = new Countdown(CONVERGED_MS_MAX);
  while (seen.length < records.length && !countdown.isOver)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  if (seen.length === records.length && digestOf(seen) === digestOf(records)) return [];
  const at = records.findIndex(({ offset, value }, i) => seen[i]?.offset !== offset || seen[i].value !== value);
  return [
    `${RECORD_TOPIC}/${partition}: it saw ${seen.length} of ${records.length} records` +
      (at >= 0 ? `; the first difference is at offset ${records[at].offset}, where it saw ${seen[at]?.offset}` : ''),
  ];
};

/** Acknowledged records are there once, where it was said, in the order of the calls; refused ones are not there; the others at most once. */
const checkProducer = (producer: Producer, partitions: readonly (readonly SeenRecord[])[]): Findings => {
  const findings: string[] = [];
  const found = new Map<number, { readonly partition: number; readonly offset: number }>();
  const prefix = `{"producer":${producer.id},`;
  const say = (n: number, what: string): void => {
    findings.push(`record ${n} of producer ${producer.id} (${producer.client.name}) ${what}`);
  };
  for (const [partition, records] of partitions.entries()) {
    for (const { offset, value } of records) {
      if (!value.startsWith(prefix)) continue;
      const { n } = JSON.parse(value) as { n: number };
      const before = found.get(n);
      if (before) say(n, `is there twice: ${before.partition}:${before.offset} and ${partition}:${offset}`);
      found.set(n, { partition, offset });
    }
  }
  const last = partitions.map(() => 0);
  for (const [n, fate] of producer.fates.entries()) {
    const place = found.get(n);
    if (fate.kind === 'rejected' && place) say(n, `was refused and is there at ${place.partition}:${place.offset}`);
    if (fate.kind !== 'acknowledged') continue;
    const { partition, offset } = fate;
    if (!place) say(n, `was acknowledged at ${partition}:${offset} and is missing`);
    else if (place.partition !== partition || place.offset !== offset)
      say(n, `was acknowledged at ${partition}:${offset} and is at ${place.partition}:${place.offset}`);
    if (offset <= last[partition])
      say(n, `is at ${partition}:${offset}, behind a later one of its producer at ${last[partition]}`);
    last[partition] = offset;
  }
  for (const n of found.keys()) if (!(n in producer.fates)) say(n, 'was never sent and is there');
  return findings;
};

/* ---- histories ---- */

const READERS = 8;

/** Reads every key that was ever used once more: what was acknowledged must have survived everything that came after. */
export const readAllKeys = async (history: History, clients: readonly ChaosClient[]): Promise<Findings> => {
  const findings: string[] = [];
  const keys = history.keys;
  let next = 0;
  const reader = async (client: ChaosClient): Promise<void> => {
    while (next < keys.length) {
      const key = keys[next++];
      const invokedAt = performance.now();
      const result = await client.get(key);
      if (result.kind !== 'ok') {
        findings.push(`${key} could not be read at the end through ${client.name}: ${result.code}`);
        continue;
      }
      const returnedAt = performance.now();
      const output = { kind: 'value' as const, value: result.value };
      history.add({ key, client: -1, input: { kind: 'get' }, output, invokedAt, returnedAt });
    }
  };
  await Promise.all(Array.from({ length: READERS }, (_, i) => reader(clients[i % clients.length])));
  return findings;
};

export const checkHistory = (history: History): Findings => {
  const verdict = checkLinearizability(history.sharpened());
  const refused = history.keys.flatMap((key) =>
    history
      .of(key)
      .flatMap(({ output }) =>
        output.kind === 'value' && output.value !== null && history.refused.has(output.value)
          ? [`${key}: ${output.value} was refused and was read`]
          : [],
      ),
  );
  switch (verdict.verdict) {
    case 'linearizable':
      return refused;
    case 'undecided':
      return [`${verdict.key}: undecided after ${verdict.operations} operations`, ...refused];
    case 'illegal':
      return [
        `${verdict.key} is not linearizable:`,
        ...verdict.operations
          .toSorted((a, b) => a.invokedAt - b.invokedAt)
          .map(
            ({ client, input, output, invokedAt, returnedAt }) =>
              `  ${invokedAt.toFixed(1)}–${returnedAt.toFixed(1)} client ${client} ${JSON.stringify(input)} → ${JSON.stringify(output)}`,
          ),
        ...refused,
      ];
  }
};

/* ---- disks ---- */

/** After all nodes have stopped: what the offline check says, and whether the logs are the same, byte by byte, up to the offsets of `converged`. */
export const checkDisks = async (
  cluster: ChaosCluster,
  converged: readonly { readonly group: number; readonly offset: number }[],
): Promise<{ readonly verify: Findings; readonly logs: Findings; readonly groups: number }> => {
  const verify: string[] = [];
  const groups = new Map<number, { readonly node: ChaosNode; readonly report: GroupReport }[]>();
  for (const node of cluster.nodes) {
    const report = verifyDataDirectory(nodeFileSystem, node.dataDir);
    for (const { severity, file, position, what } of report.problems)
      if (severity === 'damage') verify.push(`${node.name}: ${file} at ${position}: ${what}`);
    for (const group of report.groups) {
      const list = groups.get(group.group);
      if (list) list.push({ node, report: group });
      else groups.set(group.group, [{ node, report: group }]);
    }
  }
  const logs: string[] = [];
  for (const [group, copies] of [...groups].sort(([a], [b]) => a - b)) {
    const end =
      converged.find((each) => each.group === group)?.offset ?? Math.min(...copies.map(({ report }) => report.commit));
    if (copies.length !== cluster.nodes.length) logs.push(`group ${group}: on ${copies.length} nodes only`);
    const digests: string[] = [];
    for (const { node, report } of copies) {
      if (report.lastOffset < end)
        logs.push(`group ${group}: the log of ${node.name} ends at ${report.lastOffset}, before ${end}`);
      digests.push(await digestOfLog(report, asOffset(end)));
    }
    for (const [i, digest] of digests.entries())
      if (digest !== digests[0])
        logs.push(
          `group ${group}: up to offset ${end} the log of ${copies[i].node.name} differs from that of ${copies[0].node.name}`,
        );
  }
  return { verify, logs, groups: groups.size };
};

const READ_BYTES = 1024 * 1024;

const digestOfLog = async (report: GroupReport, end: Offset): Promise<string> => {
  const log = openPartitionLog({
    fs: nodeFileSystem,
    directory: report.directory,
    group: asGroupId(report.group),
    clock: systemClock,
    scheduler: systemScheduler,
    options: { segmentBytes: SEGMENT_BYTES },
  });
  const hash = createHash('sha256');
  try {
    for (let from = report.baseOffset + 1; from <= end;) {
      const batches = await new Promise<Buffer>((resolve, reject) =>
        log.read({ from: asOffset(from), to: end, bytesMax: READ_BYTES }, (error, bytes) =>
          error ? reject(error) : resolve(bytes),
        ),
      );
      if (batches.length === 0) break;
      hash.update(batches);
      let last: number = end;
      forEachBatch(batches, (at) => {
        last = batchLastOffset(batches, at);
      });
      from = last + 1;
    }
  } catch (error) {
    return `unreadable: ${(error as Error).message}`;
  } finally {
    await new Promise<void>((resolve) => log.close(resolve));
  }
  return hash.digest('hex');
};
