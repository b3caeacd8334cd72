import { ByteWriter, NO_OFFSET, TidelineError, asLogTime, asOffset, type LogTime, type Offset } from '#kernel';
import type { CommandLog } from '#command-log';
import type {
  ApplyResult,
  ArchivedEntry,
  ArchivePage,
  ArchiveRequest,
  Entry,
  Position,
  ReadPoint,
  ScanPage,
  ViewQuery,
  ViewStats,
  WatchChunk,
  WatchEvent,
} from '#views';
import {
  DEL_IF,
  PUT_IF,
  decodeCondition,
  decodeOp,
  decodeRecords,
  forEachBatch,
  batchLastOffset,
  writeFound,
  writeNotAnswered,
  type LogRecord,
} from '#wire';
import { Observable, Subject, type Subscription } from 'rxjs';

const OK: ApplyResult = { ok: true, code: '', message: '', value: '', entryOffset: asOffset(0) };

const isLive = (entry: Entry | undefined, time: LogTime): entry is Entry =>
  entry !== undefined && (entry.expiresAt === null || entry.expiresAt > time);

const failed = (code: string, message: string, entryOffset: Offset): ApplyResult => ({
  ok: false,
  code,
  message,
  value: '',
  entryOffset,
});

/** One partition of a view as a plain Map, folded from the tail of the log. */
class FoldedPartition {
  readonly entries = new Map<string, Entry>();
  readonly results = new Map<number, ApplyResult>();
  readonly events = new Subject<WatchEvent>();
  position: Position = { offset: asOffset(0), logTime: asLogTime(0) };
  private waiters: (() => void)[] = [];
  private readonly subscription: Subscription;

  constructor(
    log: CommandLog,
    topic: string,
    private readonly partition: number,
  ) {
    this.subscription = log.tail({ topic, partition }, asOffset(1)).subscribe({
      next: (chunk) => {
        const { batches } = chunk;
        forEachBatch(batches, (at) => {
          for (const record of decodeRecords(batches, at)) this.apply(record);
          const logTime = asLogTime(Number(batches.readBigUInt64LE(at + 32)));
          this.position = { offset: batchLastOffset(batches, at), logTime };
        });
        chunk.release();
        for (const wake of this.waiters.splice(0)) wake();
      },
      error: () => undefined,
    });
  }

  private apply(record: LogRecord): void {
    if (record.key === null) return;
    const name = record.key.toString('latin1');
    const { logTime, offset } = record;
    const before = this.entries.get(name);
    const current = isLive(before, logTime) ? before : null;
    const op = record.op ? decodeOp(record.op) : null;
    let value = record.value;
    let result: ApplyResult = { ...OK, entryOffset: offset };
    if (op && (op.name === PUT_IF || op.name === DEL_IF)) {
      const condition = decodeCondition(op.args[0]);
      const holds =
        condition.kind === 'absent'
          ? current === null
          : condition.kind === 'present'
            ? current !== null
            : current?.offset === condition.offset;
      if (!holds) {
        const message = current ? `the entry is at offset ${current.offset}` : 'there is no entry';
        this.results.set(offset, failed('condition-failed', message, current?.offset ?? asOffset(0)));
        return;
      }
    } else if (op?.name === 'incrby') {
      const sum = Number(current?.value.toString() ?? '0') + Number(op.args[0].toString());
      value = Buffer.from(String(sum));
      result = { ...result, value: String(sum) };
    } else if (op) {
      this.results.set(offset, failed('unknown-command', `no command ${op.name}`, asOffset(0)));
      return;
    }
    this.results.set(offset, result);
    if (value === null) {
      if (this.entries.delete(name)) {
        this.events.next({ type: 'delete', partition: this.partition, key: record.key, offset });
      }
      return;
    }
    const entry: Entry = {
      key: record.key,
      value,
      contentType: record.headers.find((header) => header.name === 'content-type')?.value.toString() ?? null,
      offset,
      logTime,
      expiresAt: record.ttlMs === undefined ? null : asLogTime(logTime + record.ttlMs),
    };
    this.entries.set(name, entry);
    this.events.next({ type: 'put', partition: this.partition, entry });
  }

  async reach(offset: Offset, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (this.position.offset < offset) {
      if (performance.now() >= deadline) throw new TidelineError('timeout', `the view is at ${this.position.offset}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadline - performance.now());
        this.waiters.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  close(): void {
    this.subscription.unsubscribe();
  }
}

/** Views for tests of the edge: every topic's map, each partition a Map. */
export class FoldingViews implements ViewQuery {
  private readonly partitions = new Map<string, FoldedPartition>();

  /** What the archive is to have; tests put it there. In the order in which it expired. */
  readonly archived: (ArchivedEntry & { readonly view: string })[] = [];

  constructor(private readonly log: CommandLog) {}

  /** The cursor is the number of entries before it. */
  async archive({ view, key, from, to, limit, cursor }: ArchiveRequest): Promise<ArchivePage> {
    const matching = this.archived.filter(
      (entry) =>
        entry.view === view &&
        (key === null || entry.key.equals(key)) &&
        (from === null || entry.expiresAt! >= from) &&
        (to === null || entry.expiresAt! < to),
    );
    const start = Number(cursor ?? 0);
    const entries = matching.slice(start, start + limit);
    const end = start + entries.length;
    return { entries, cursor: end < matching.length ? String(end) : null };
  }

  partition(view: string, partition: number): FoldedPartition {
    const name = `${view}/${partition}`;
    let folded = this.partitions.get(name);
    if (!folded) this.partitions.set(name, (folded = new FoldedPartition(this.log, view, partition)));
    return folded;
  }

  async get(request: { view: string; partition: number; key: Buffer; at: ReadPoint; timeoutMs: number }) {
    const folded = this.partition(request.view, request.partition);
    await folded.reach(request.at.offset, request.timeoutMs);
    const entry = folded.entries.get(request.key.toString('latin1'));
    return {
      entry: isLive(entry, request.at.time ?? folded.position.logTime) ? entry : null,
      position: folded.position,
    };
  }

  async getOrDeparted(request: Parameters<ViewQuery['getOrDeparted']>[0]) {
    const { entry = null, position } = await this.get(request);
    const { view, key } = request;
    const gone = this.archived.filter((archived) => archived.view === view && archived.key.equals(key));
    return { entry, departed: entry === null ? (gone.at(-1) ?? null) : null, position };
  }

  async getMany({ keys, bytesMax, ...request }: Parameters<ViewQuery['getMany']>[0]) {
    const writer = new ByteWriter();
    let position: Position = { offset: NO_OFFSET, logTime: asLogTime(0) };
    for (const key of keys) {
      const read = await this.get({ ...request, key });
      ({ position } = read);
      if (writer.position >= bytesMax) writeNotAnswered(writer);
      else writeFound(writer, read.entry ?? null);
    }
    return { found: writer.finish(), position };
  }

  async scan(request: Parameters<ViewQuery['scan']>[0]): Promise<ScanPage & { position: Position }> {
    const folded = this.partition(request.view, request.partition);
    await folded.reach(request.at.offset, request.timeoutMs);
    const time = request.at.time ?? folded.position.logTime;
    const found = [...folded.entries.values()]
      .filter((entry) => isLive(entry, time) && entry.key.subarray(0, request.prefix.length).equals(request.prefix))
      .filter((entry) => request.after === null || entry.key.compare(request.after) > 0)
      .sort((a, b) => a.key.compare(b.key));
    const entries = found.slice(0, request.limit);
    return { entries, more: found.length > entries.length, position: folded.position };
  }

  async results(request: Parameters<ViewQuery['results']>[0]) {
    const folded = this.partition(request.view, request.partition);
    await folded.reach(request.lastOffset, request.timeoutMs);
    const results: ApplyResult[] = [];
    for (let offset = request.firstOffset; offset <= request.lastOffset; offset = asOffset(offset + 1)) {
      results.push(folded.results.get(offset) ?? OK);
    }
    return { results, position: folded.position };
  }

  watch(request: { view: string; partition: number; prefix: Buffer }): Observable<WatchChunk> {
    const { prefix, partition } = request;
    return new Observable((subscriber) => {
      const folded = this.partition(request.view, partition);
      const send = (...events: WatchEvent[]): void => subscriber.next({ events, release: () => undefined });
      for (const entry of folded.entries.values()) {
        if (entry.key.subarray(0, prefix.length).equals(prefix)) send({ type: 'put', partition, entry });
      }
      send({ type: 'live', partition, offset: folded.position.offset });
      return folded.events.subscribe((event) => {
        const key = event.type === 'put' ? event.entry.key : event.type === 'live' ? null : event.key;
        if (key?.subarray(0, prefix.length).equals(prefix)) send(event);
      });
    });
  }

  async projections(): Promise<[]> {
    return [];
  }

  lookup(): Promise<never> {
    return Promise.reject(new TidelineError('bad-request', 'there are no indexes here'));
  }

  async parked(request: Parameters<ViewQuery['parked']>[0]) {
    return { events: [], more: false, position: this.partition(request.view, request.partition).position };
  }

  async stats(): Promise<readonly ViewStats[]> {
    return this.log.describe().topics.map((topic) => {
      const partitions = topic.partitions.map(({ partition, commitOffset }) => {
        const folded = this.partition(topic.name, partition);
        return { partition, ...folded.position, commitOffset, digest: '', entries: folded.entries.size, bytes: 0 };
      });
      const entries = partitions.reduce((sum, partition) => sum + partition.entries, 0);
      return { view: topic.name, topic: topic.name, kind: 'map', slots: 256, partitions, entries, bytes: 0 };
    });
  }

  close(): void {
    for (const folded of this.partitions.values()) folded.close();
  }
}
