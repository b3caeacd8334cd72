import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { TidelineClient } from '#client';
import { ClusterLauncher, type LaunchedProcess } from '../../apps/cli/src/cluster-launcher.js';
import { startProgress } from '../../apps/cli/src/progress.js';
import { untilTrue } from '../support/until-true.js';
import { freeBasePort } from '../support/free-ports.js';
import { Differences, say } from './differences.js';

/**
 * `npm run demo [-- --limit N] [--keep]`: three nodes, a real data set of 231,083 flights, the leader killed half way, and the proof that
 * nothing is missing, doubled, out of order or different on any node. Exits 1 if anything differs.
 */
interface Flight {
  readonly delay: number;
  readonly distance: number;
  readonly time: number;
}

const TOPIC = 'flights';
const PARTITIONS = 4;
const BATCH_RECORDS = 200;
const BATCHES_IN_FLIGHT = 32;
const PAGE_RECORDS = 10_000;
const NODES = 3;

/** Flights of the same distance in the same hour share a key, so that the view is a real fold of the file and not the file again. */
const keyOf = (flight: Flight): string => `${flight.distance}/${Math.floor(flight.time)}`;

const valueOf = (flight: Flight, n: number): string => JSON.stringify({ n, ...flight });

const seconds = (sinceMs: number): string => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
const count = (n: number): string => n.toLocaleString('en-US');

interface PartitionInfo {
  readonly partition: number;
  readonly leader: number;
  readonly commitOffset: number;
}

const getJson = async <T>(process: LaunchedProcess, path: string): Promise<T> => {
  const response = await fetch(`http://${process.httpAddress}${path}`);
  if (!response.ok) throw new Error(`GET ${path} from ${process.name}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
};

const partitionsOf = async (process: LaunchedProcess): Promise<readonly PartitionInfo[]> => {
  const cluster = await getJson<{ topics: { name: string; partitions: PartitionInfo[] }[] }>(process, '/v1/cluster');
  return cluster.topics.find((topic) => topic.name === TOPIC)?.partitions ?? [];
};

/** Imports everything in file order; kills the leader of partition 0 when half is acknowledged. Returns who was killed and the longest pause. */
const importFlights = async (
  launcher: ClusterLauncher,
  flights: readonly Flight[],
): Promise<{ killed: LaunchedProcess; gapMs: number }> => {
  const client = await TidelineClient.connect({ addresses: launcher.gateways.map((process) => process.nativeAddress) });
  const progress = startProgress('importing', flights.length);
  let acknowledged = 0;
  let next = 0;
  let lastAck = performance.now();
  let gapMs = 0;
  let killing = false;
  let killed: LaunchedProcess | null = null;
  const half = Math.floor(flights.length / 2);
  const worker = async (): Promise<void> => {
    while (next < flights.length) {
      const from = next;
      const until = Math.min(flights.length, from + BATCH_RECORDS);
      next = until;
      const records = flights
        .slice(from, until)
        .map((flight, i) => ({ key: keyOf(flight), value: valueOf(flight, from + i) }));
      await client.append(TOPIC, records);
      const now = performance.now();
      gapMs = Math.max(gapMs, now - lastAck);
      lastAck = now;
      acknowledged += records.length;
      progress.update(acknowledged);
      if (!killing && acknowledged >= half) {
        killing = true;
        const [{ leader }] = await partitionsOf(launcher.gateways[0]);
        killed = launcher.logNodes[leader - 1];
        killed.kill('SIGKILL');
        gapMs = 0;
        lastAck = performance.now();
        process.stderr.write(
          `\nkilled ${killed.name} (pid ${killed.pid}), leader of partition 0, after ${count(acknowledged)} records\n`,
        );
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, worker));
  } finally {
    await client.close();
  }
  progress.finish();
  return { killed: killed!, gapMs };
};

interface RecordsAnswer {
  readonly records: readonly { readonly offset: number; readonly key: string; readonly value: unknown }[];
  readonly nextOffset: number;
}

/** Reads a node's log from start to end; returns what is wrong with it. */
const checkLog = async (
  node: LaunchedProcess,
  flights: readonly Flight[],
  ends: readonly number[],
): Promise<{ problems: string[]; records: number }> => {
  const problems: string[] = [];
  const seen = new Uint8Array(flights.length);
  let records = 0;
  for (let partition = 0; partition < PARTITIONS; partition++) {
    let from = 0;
    let lastN = -1;
    let lastOffset = 0;
    while (from <= ends[partition]) {
      const page = await getJson<RecordsAnswer>(
        node,
        `/v1/topics/${TOPIC}/records?partition=${partition}&from=${from}&limit=${PAGE_RECORDS}`,
      );
      for (const record of page.records) {
        const value = (typeof record.value === 'string' ? JSON.parse(record.value) : record.value) as Flight & {
          n: number;
        };
        const flight = flights[value.n];
        records++;
        if (!flight || valueOf(flight, value.n) !== JSON.stringify(value) || record.key !== keyOf(flight))
          problems.push(`partition ${partition} offset ${record.offset}: not a record of the file`);
        else if (seen[value.n]++)
          problems.push(`partition ${partition} offset ${record.offset}: flight ${value.n} is there twice`);
        if (value.n <= lastN || record.offset <= lastOffset)
          problems.push(`partition ${partition} offset ${record.offset}: out of order`);
        lastN = value.n;
        lastOffset = record.offset;
      }
      if (page.nextOffset <= from) break;
      from = page.nextOffset;
    }
  }
  const missing = seen.reduce((sum, n) => sum + (n === 0 ? 1 : 0), 0);
  if (missing > 0) problems.push(`${missing} records are missing`);
  return { problems, records };
};

interface ScanAnswer {
  readonly entries: readonly { readonly key: string; readonly value: unknown }[];
  readonly cursor: string | null;
}

/** Compares a node's view, read linearizably, with a fold of the file. */
const checkView = async (
  node: LaunchedProcess,
  expected: ReadonlyMap<string, string>,
): Promise<{ problems: string[]; entries: number }> => {
  const problems: string[] = [];
  let entries = 0;
  let cursor: string | null = null;
  let lastKey: Buffer | null = null;
  do {
    const page: ScanAnswer = await getJson<ScanAnswer>(
      node,
      `/v1/views/${TOPIC}/entries?limit=1000&values=true${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`,
    );
    for (const { key, value } of page.entries) {
      entries++;
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      if (expected.get(key) !== text) problems.push(`entry ${key}: ${text} instead of ${String(expected.get(key))}`);
      const bytes = Buffer.from(key);
      if (lastKey && Buffer.compare(lastKey, bytes) >= 0) problems.push(`entry ${key}: scan out of order`);
      lastKey = bytes;
    }
    cursor = page.cursor;
  } while (cursor);
  if (entries !== expected.size) problems.push(`${entries} entries instead of ${expected.size}`);
  return { problems, entries };
};

/** Returns the exit code. */
export const runFlights = async (args: readonly string[]): Promise<number> => {
  const { values } = parseArgs({
    args: [...args],
    options: { limit: { type: 'string' }, keep: { type: 'boolean', default: false } },
  });
  const limit = values.limit === undefined ? Number.POSITIVE_INFINITY : Number(values.limit);
  if (!(limit >= 1000)) {
    console.error('--limit takes a number of at least 1000');
    return 2;
  }
  const file = join(
    dirname(createRequire(import.meta.url).resolve('vega-datasets')),
    '..',
    'data',
    'flights-200k.json',
  );
  const flights = (JSON.parse(readFileSync(file, 'utf8')) as Flight[]).slice(0, limit);
  const expected = new Map<string, string>();
  for (const [n, flight] of flights.entries()) expected.set(keyOf(flight), valueOf(flight, n));
  say(`${count(flights.length)} flights, ${count(expected.size)} keys`);

  const dataDir = mkdtempSync(join(tmpdir(), 'tideline-demo-'));
  const launcher = new ClusterLauncher({
    nodes: NODES,
    dataDir,
    basePort: await freeBasePort(NODES),
    split: false,
    options: { topics: `default,${TOPIC}:${PARTITIONS}`, 'log-level': 'warn' },
    onUnexpectedExit: (process_, why) =>
      console.error(`${process_.name} ended: ${why}; see ${launcher.logFile(process_)}`),
  });
  const differences = new Differences();
  const began = performance.now();
  try {
    await launcher.start();
    say(
      `three nodes ready after ${seconds(began)}: ${launcher.processes.map((process) => `${process.name} pid ${process.pid}`).join(', ')}`,
    );

    const importBegan = performance.now();
    const { killed, gapMs } = await importFlights(launcher, flights);
    const importSeconds = (performance.now() - importBegan) / 1000;
    say(
      `imported ${count(flights.length)} records in ${importSeconds.toFixed(1)} s (${count(Math.round(flights.length / importSeconds))}/s); longest pause after the kill ${Math.round(gapMs)} ms`,
    );

    killed.start();
    await launcher.ready(60_000);
    say(`${killed.name} is back`);
    const survivor = launcher.processes.find((process) => process !== killed)!;
    const ends = (await partitionsOf(survivor)).map((partition) => partition.commitOffset);
    for (const node of launcher.processes) {
      await caughtUp(node, ends);
      const logBegan = performance.now();
      const log = await checkLog(node, flights, ends);
      differences.report(
        `${node.name}: ${count(log.records)} records, each once and in order (${seconds(logBegan)})`,
        log.problems,
      );
      const viewBegan = performance.now();
      const view = await checkView(node, expected);
      differences.report(
        `${node.name}: view of ${count(view.entries)} entries equals a fold of the file (${seconds(viewBegan)})`,
        view.problems,
      );
    }
  } finally {
    await launcher.stop();
    if (!values.keep && differences.count === 0) rmSync(dataDir, { recursive: true, force: true });
    else say(`data and logs kept in ${dataDir}`);
  }
  say(differences.count === 0 ? `demo passed in ${seconds(began)}` : `demo FAILED: ${differences.count} differences`);
  return differences.count === 0 ? 0 : 1;
};

const CATCH_UP_MS = 30_000;

/** The killed node reads from its own log: wait until that has everything. */
const caughtUp = async (node: LaunchedProcess, ends: readonly number[]): Promise<void> => {
  const hasAll = async (): Promise<boolean> => {
    const have = await partitionsOf(node);
    return ends.every((end, i) => (have[i]?.commitOffset ?? 0) >= end);
  };
  await untilTrue(`${node.name} to catch up`, hasAll, CATCH_UP_MS);
};
