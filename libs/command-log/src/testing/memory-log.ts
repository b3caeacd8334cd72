import {
  TidelineError,
  asLogTime,
  asOffset,
  asTerm,
  type Clock,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
} from '#kernel';
import {
  ControlKind,
  batchFirstOffset,
  batchLastOffset,
  batchLogTime,
  batchPayloadCrc,
  batchRecordCount,
  batchSequence,
  batchSessionHigh,
  batchSessionLow,
  batchTerm,
  checkBatch,
  encodeControlBatch,
  isIdempotencyKey,
  sessionTableKey,
  stampBatch,
} from '#wire';
import type { AppendResult } from '../command-log.js';

/** Batches of a session whose offsets are remembered. */
const SESSION_BATCHES_KEPT = 8;
const LEADER_TIME_STEP_MS = 1_000;

interface RememberedBatch {
  readonly sequence: number;
  readonly payloadCrc: number;
  readonly batch: Buffer;
}

/** One partition's log as all nodes see it: stamped batches, sessions, a commit offset that a test may hold back. */
export class MemoryLog {
  readonly batches: Buffer[] = [];
  logStartOffset = asOffset(1);
  lastOffset = asOffset(0);
  lastLogTime = asLogTime(0);
  term = asTerm(0);
  leader: NodeId;
  /** Highest offset that may be committed: a test's way to let appends hang. */
  commitLimit = Number.POSITIVE_INFINITY;
  private readonly sessions = new Map<number | string, RememberedBatch[]>();
  private readonly listeners = new Set<() => void>();

  constructor(
    readonly group: GroupId,
    private readonly clock: Clock,
    leader: NodeId,
  ) {
    this.leader = leader;
    this.elect(leader);
  }

  get commitOffset(): Offset {
    return asOffset(Math.min(this.lastOffset, this.commitLimit));
  }

  /** Called after each change of what can be read. Returns a function that takes the listener back. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(): void {
    for (const listener of this.listeners) listener();
  }

  /** A new term, begun with a no-op, its time far enough ahead of what the last leader may have promised. */
  elect(leader: NodeId): void {
    this.leader = leader;
    this.term = asTerm(this.term + 1);
    if (this.lastOffset > 0) this.lastLogTime = asLogTime(this.lastLogTime + LEADER_TIME_STEP_MS);
    this.appendControl(ControlKind.Noop);
  }

  /** Appends, or finds what the batch's session or key says was appended before. Errors as a leader's. */
  append(batch: Buffer): AppendResult {
    checkBatch(batch);
    const low = batchSessionLow(batch);
    const high = batchSessionHigh(batch);
    if (low === 0 && high === 0) return this.write(batch);
    const key = sessionTableKey(low, high);
    const sequence = batchSequence(batch);
    const payloadCrc = batchPayloadCrc(batch);
    let known = this.sessions.get(key);
    if (isIdempotencyKey(high)) {
      if (known !== undefined) {
        if (known[0].payloadCrc !== payloadCrc) {
          throw new TidelineError('idempotency-conflict', 'the key was used for another request');
        }
        return this.answer(known[0].batch, true);
      }
      this.sessions.set(key, (known = []));
    } else {
      if (known === undefined) throw new TidelineError('session-expired', `no session ${low}`);
      const last = known.at(-1)?.sequence ?? 0;
      if (sequence <= last) {
        const same = known.find((candidate) => candidate.sequence === sequence);
        if (same?.payloadCrc !== payloadCrc) throw new TidelineError('sequence-reused', `sequence ${sequence} is past`);
        return this.answer(same.batch, true);
      }
      if (sequence > last + 1) throw new TidelineError('sequence-gap', `sequence ${sequence} after ${last}`);
    }
    known.push({ sequence, payloadCrc, batch });
    if (known.length > SESSION_BATCHES_KEPT) known.shift();
    return this.write(batch);
  }

  openSession(): number {
    const session = this.appendControl(ControlKind.OpenSession);
    this.sessions.set(session, []);
    return session;
  }

  /** As when the table is full or the session was idle for too long. */
  expireSessions(): void {
    this.sessions.clear();
  }

  beacon(): void {
    this.appendControl(ControlKind.Beacon);
  }

  /** Lets go of whole batches that end below the offset. */
  trimBefore(offset: Offset): void {
    while (this.batches.length > 0 && batchLastOffset(this.batches[0]) < offset) this.batches.shift();
    this.logStartOffset =
      this.batches.length > 0 ? batchFirstOffset(this.batches[0]) : asOffset(Number(this.lastOffset) + 1);
  }

  /** Whole batches from the one with `from`, committed as far as `to`; at least one if there is one, else no more than bytesMax. */
  read(request: { readonly from: Offset; readonly to: Offset; readonly bytesMax: number }): Buffer {
    const found: Buffer[] = [];
    let bytes = 0;
    for (let at = this.indexOf(request.from); at < this.batches.length; at++) {
      const batch = this.batches[at];
      if (batchLastOffset(batch) > request.to) break;
      if (found.length > 0 && bytes + batch.length > request.bytesMax) break;
      found.push(batch);
      bytes += batch.length;
    }
    return Buffer.concat(found);
  }

  private indexOf(offset: Offset): number {
    let low = 0;
    let high = this.batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (batchLastOffset(this.batches[middle]) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  offsetAtTime(time: LogTime): Offset {
    const batch = this.batches.find((candidate) => batchLogTime(candidate) >= time);
    return batch ? batchFirstOffset(batch) : asOffset(this.lastOffset + 1);
  }

  private appendControl(kind: ControlKind): Offset {
    return this.write(encodeControlBatch(kind, Buffer.alloc(0), this.clock.wallMs())).firstOffset;
  }

  private write(batch: Buffer): AppendResult {
    const firstOffset = asOffset(this.lastOffset + 1);
    this.lastLogTime = asLogTime(Math.max(this.clock.wallMs(), this.lastLogTime));
    stampBatch(batch, { firstOffset, term: this.term, logTime: this.lastLogTime, group: this.group });
    this.batches.push(batch);
    this.lastOffset = asOffset(this.lastOffset + batchRecordCount(batch));
    this.changed();
    return this.answer(batch, false);
  }

  private answer(batch: Buffer, duplicate: boolean): AppendResult {
    return {
      firstOffset: batchFirstOffset(batch),
      lastOffset: batchLastOffset(batch),
      logTime: batchLogTime(batch),
      term: batchTerm(batch),
      node: this.leader,
      duplicate,
    };
  }
}
