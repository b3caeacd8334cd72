import { ByteReader, ByteWriter, TidelineError, asLogTime, asOffset, type LogTime, type Offset } from '#kernel';
import {
  ControlKind,
  batchFirstOffset,
  batchIsControl,
  batchLastOffset,
  batchLogTime,
  batchPayloadCrc,
  batchRecordCount,
  batchSequence,
  batchSessionHigh,
  batchSessionLow,
  sessionTableKey,
} from '#wire';
import { AgedMap, type Aged } from './aged-map.js';

/** Batches of a session whose offsets are remembered; a power of two. A retry of one of them gets its offsets again. */
export const SESSION_BATCHES_KEPT = 8;

export interface SessionLimits {
  /** Beyond it the session unused the longest goes. */
  readonly sessionsMax: number;
  readonly idempotencyKeysMax: number;
  /** By log time, since the last batch. */
  readonly sessionIdleMsMax: number;
  readonly idempotencyKeyMsMax: number;
}

/** Part of what the log means: every replica must use the same. */
export const SESSION_LIMITS: SessionLimits = {
  sessionsMax: 10_000,
  idempotencyKeysMax: 50_000,
  sessionIdleMsMax: 24 * 60 * 60 * 1000,
  idempotencyKeyMsMax: 24 * 60 * 60 * 1000,
};

/** What is to be done with a batch that arrived. `append` needs no facts and is one shared object. */
export type SessionVerdict =
  | { readonly kind: 'append' }
  | {
      readonly kind: 'duplicate';
      readonly firstOffset: Offset;
      readonly lastOffset: Offset;
      readonly logTime: LogTime;
    }
  | { readonly kind: 'refused'; readonly error: TidelineError };

const APPEND: SessionVerdict = { kind: 'append' };

interface Session extends Aged {
  readonly key: number;
  lastSequence: number;
  logTime: number;
  /** Facts of the last batches, at index sequence mod SESSION_BATCHES_KEPT. */
  readonly firstOffsets: number[];
  readonly counts: number[];
  readonly logTimes: number[];
  /** Tell a retry from another batch under the same number. */
  readonly payloadCrcs: number[];
}

interface IdempotencyKey extends Aged {
  readonly key: string;
  readonly payloadCrc: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
  readonly logTime: number;
}

/** How to take one batch back. */
interface Undo {
  readonly offset: Offset;
  expiredSessions: Session[] | null;
  expiredKeys: IdempotencyKey[] | null;
  addedSession: Session | null;
  addedKey: IdempotencyKey | null;
  touched: Session | null;
  before: Session | null;
  logTime: number;
  slotFirstOffset: number;
  slotCount: number;
  slotLogTime: number;
  slotPayloadCrc: number;
}

const FORMAT_VERSION = 1;

/**
 * Who has appended what: makes a retried append take effect once. A function of the log alone: the same batches in the same order give the
 * same table on every node, also what is dropped from it, because only log time counts. It follows the log to its very end, committed or not,
 * and goes back with it when the end is cut off.
 *
 * Serialised (little endian):
 *
 *     u8 version (1)
 *     u32 sessions, oldest use first:  u64 id · u32 last sequence · u64 log time ·
 *                                      u8 n · n × (u64 first offset · u32 count · u64 log time · u32 payload CRC), up to the last sequence
 *     u32 keys, oldest first:          16 bytes key · u32 payload CRC · u64 first offset · u64 last offset · u64 log time
 */
export class SessionTable {
  private readonly sessions = new AgedMap<Session>();
  private readonly keys = new AgedMap<IdempotencyKey>();
  /** For what is not committed, in log order. */
  private undos: Undo[] = [];

  constructor(private readonly limits: SessionLimits = SESSION_LIMITS) {}

  get sessionCount(): number {
    return this.sessions.size;
  }

  get idempotencyKeyCount(): number {
    return this.keys.size;
  }

  /** Judges a batch that would be appended at the end of the log with this log time. */
  check(batch: Uint8Array, at: LogTime): SessionVerdict {
    const low = batchSessionLow(batch);
    const high = batchSessionHigh(batch);
    if (high !== 0) return this.checkKey(sessionTableKey(low, high) as string, batch, at);
    if (low === 0) return APPEND;
    const session = this.sessions.get(low);
    if (session === undefined || session.logTime + this.limits.sessionIdleMsMax <= at) {
      return refused('session-expired', `session ${low} is not known`);
    }
    const sequence = batchSequence(batch);
    if (sequence === session.lastSequence + 1) return APPEND;
    if (sequence > session.lastSequence) {
      return refused('sequence-gap', `sequence ${sequence} came after ${session.lastSequence}`, {
        expected: session.lastSequence + 1,
      });
    }
    if (sequence === 0) return refused('bad-request', 'a batch of a session needs a sequence from 1');
    if (sequence <= session.lastSequence - SESSION_BATCHES_KEPT) {
      return refused('sequence-reused', `sequence ${sequence} is too far behind ${session.lastSequence}`);
    }
    const slot = sequence % SESSION_BATCHES_KEPT;
    if (session.payloadCrcs[slot] !== batchPayloadCrc(batch)) {
      return refused('sequence-reused', `sequence ${sequence} was used for another batch`);
    }
    const firstOffset = session.firstOffsets[slot];
    return {
      kind: 'duplicate',
      firstOffset: asOffset(firstOffset),
      lastOffset: asOffset(firstOffset + session.counts[slot] - 1),
      logTime: asLogTime(session.logTimes[slot]),
    };
  }

  private checkKey(key: string, batch: Uint8Array, at: LogTime): SessionVerdict {
    const known = this.keys.get(key);
    if (known === undefined || known.logTime + this.limits.idempotencyKeyMsMax <= at) return APPEND;
    if (known.payloadCrc !== batchPayloadCrc(batch)) {
      return refused('idempotency-conflict', 'the idempotency key was used for another request');
    }
    return {
      kind: 'duplicate',
      firstOffset: asOffset(known.firstOffset),
      lastOffset: asOffset(known.lastOffset),
      logTime: asLogTime(known.logTime),
    };
  }

  /**
   * Takes in the next batch of the log: its header, and the kind if it is a control batch (0 otherwise). With `revocable` it can be taken back
   * until `commit` has passed it.
   */
  apply(header: Uint8Array, controlKind: number, revocable: boolean): void {
    const logTime = batchLogTime(header);
    const expiredSessions = this.expireSessions(logTime);
    const expiredKeys = this.expireKeys(logTime);
    const low = batchSessionLow(header);
    const high = batchSessionHigh(header);
    if (low === 0 && high === 0 && controlKind !== ControlKind.OpenSession) {
      if (revocable && (expiredSessions !== null || expiredKeys !== null)) {
        this.undos.push(undoOf(batchLastOffset(header), expiredSessions, expiredKeys));
      }
      return;
    }
    const undo = undoOf(batchLastOffset(header), expiredSessions, expiredKeys);
    if (batchIsControl(header)) this.open(batchFirstOffset(header), logTime, undo);
    else if (high !== 0) this.addKey(sessionTableKey(low, high) as string, header, undo);
    else this.addBatch(low, header, undo);
    if (revocable) this.undos.push(undo);
  }

  private open(id: Offset, logTime: LogTime, undo: Undo): void {
    const session: Session = {
      key: id,
      older: null,
      newer: null,
      lastSequence: 0,
      logTime,
      firstOffsets: emptySlots(),
      counts: emptySlots(),
      logTimes: emptySlots(),
      payloadCrcs: emptySlots(),
    };
    this.sessions.add(session);
    undo.addedSession = session;
    if (this.sessions.size > this.limits.sessionsMax) {
      const evicted = this.sessions.oldest!;
      this.sessions.delete(evicted);
      (undo.expiredSessions ??= []).push(evicted);
    }
  }

  private addKey(key: string, header: Uint8Array, undo: Undo): void {
    // A key that is there already cannot be appended again: the leader checked it against this same table.
    if (this.keys.get(key) !== undefined) return;
    const entry: IdempotencyKey = {
      key,
      older: null,
      newer: null,
      payloadCrc: batchPayloadCrc(header),
      firstOffset: batchFirstOffset(header),
      lastOffset: batchLastOffset(header),
      logTime: batchLogTime(header),
    };
    this.keys.add(entry);
    undo.addedKey = entry;
    if (this.keys.size > this.limits.idempotencyKeysMax) {
      const evicted = this.keys.oldest!;
      this.keys.delete(evicted);
      (undo.expiredKeys ??= []).push(evicted);
    }
  }

  private addBatch(id: number, header: Uint8Array, undo: Undo): void {
    const session = this.sessions.get(id);
    const sequence = batchSequence(header);
    if (session === undefined || sequence !== session.lastSequence + 1) return;
    const slot = sequence % SESSION_BATCHES_KEPT;
    undo.touched = session;
    undo.logTime = session.logTime;
    undo.slotFirstOffset = session.firstOffsets[slot];
    undo.slotCount = session.counts[slot];
    undo.slotLogTime = session.logTimes[slot];
    undo.slotPayloadCrc = session.payloadCrcs[slot];
    undo.before = this.sessions.touch(session);
    session.lastSequence = sequence;
    session.logTime = batchLogTime(header);
    session.firstOffsets[slot] = batchFirstOffset(header);
    session.counts[slot] = batchRecordCount(header);
    session.logTimes[slot] = session.logTime;
    session.payloadCrcs[slot] = batchPayloadCrc(header);
  }

  /** Drops what is too old at this log time, the oldest first. */
  private expireSessions(now: LogTime): Session[] | null {
    const { sessions, limits } = this;
    let expired: Session[] | null = null;
    for (let oldest = sessions.oldest; oldest !== null; oldest = sessions.oldest) {
      if (oldest.logTime + limits.sessionIdleMsMax > now) break;
      sessions.delete(oldest);
      (expired ??= []).push(oldest);
    }
    return expired;
  }

  private expireKeys(now: LogTime): IdempotencyKey[] | null {
    const { keys, limits } = this;
    let expired: IdempotencyKey[] | null = null;
    for (let oldest = keys.oldest; oldest !== null; oldest = keys.oldest) {
      if (oldest.logTime + limits.idempotencyKeyMsMax > now) break;
      keys.delete(oldest);
      (expired ??= []).push(oldest);
    }
    return expired;
  }

  /** What lies at or below `offset` is not taken back any more. */
  commit(offset: Offset): void {
    const { undos } = this;
    if (undos.length === 0 || undos[0].offset > offset) return;
    let count = 0;
    while (count < undos.length && undos[count].offset <= offset) count++;
    this.undos = undos.slice(count);
  }

  /** Takes back all batches after `offset`. */
  truncateAfter(offset: Offset): void {
    const { undos } = this;
    while (undos.length > 0 && undos[undos.length - 1].offset > offset) this.takeBack(undos.pop()!);
  }

  private takeBack(undo: Undo): void {
    if (undo.addedSession !== null) this.sessions.delete(undo.addedSession);
    if (undo.addedKey !== null) this.keys.delete(undo.addedKey);
    const session = undo.touched;
    if (session !== null) {
      const slot = session.lastSequence % SESSION_BATCHES_KEPT;
      session.firstOffsets[slot] = undo.slotFirstOffset;
      session.counts[slot] = undo.slotCount;
      session.logTimes[slot] = undo.slotLogTime;
      session.payloadCrcs[slot] = undo.slotPayloadCrc;
      session.lastSequence -= 1;
      session.logTime = undo.logTime;
      this.sessions.restore(session, undo.before);
    }
    const { expiredKeys, expiredSessions } = undo;
    if (expiredKeys !== null) for (let i = expiredKeys.length; i-- > 0;) this.keys.addOldest(expiredKeys[i]);
    if (expiredSessions !== null) {
      for (let i = expiredSessions.length; i-- > 0;) this.sessions.addOldest(expiredSessions[i]);
    }
  }

  encode(writer: ByteWriter): void {
    writer.u8(FORMAT_VERSION).u32(this.sessions.size);
    for (const session of this.sessions) {
      const kept = Math.min(session.lastSequence, SESSION_BATCHES_KEPT);
      writer.u64(session.key).u32(session.lastSequence).u64(session.logTime).u8(kept);
      for (let sequence = session.lastSequence - kept + 1; sequence <= session.lastSequence; sequence++) {
        const slot = sequence % SESSION_BATCHES_KEPT;
        writer.u64(session.firstOffsets[slot]).u32(session.counts[slot]);
        writer.u64(session.logTimes[slot]).u32(session.payloadCrcs[slot]);
      }
    }
    writer.u32(this.keys.size);
    for (const entry of this.keys) {
      writer.bytes(Buffer.from(entry.key, 'latin1')).u32(entry.payloadCrc);
      writer.u64(entry.firstOffset).u64(entry.lastOffset).u64(entry.logTime);
    }
  }

  /** @throws TidelineError `malformed-frame` | `unsupported-version` */
  static decode(reader: ByteReader, limits: SessionLimits = SESSION_LIMITS): SessionTable {
    const version = reader.u8();
    if (version !== FORMAT_VERSION) throw new TidelineError('unsupported-version', `session table version ${version}`);
    const table = new SessionTable(limits);
    for (let left = reader.u32(); left > 0; left--) {
      const session: Session = {
        key: reader.u64(),
        older: null,
        newer: null,
        lastSequence: reader.u32(),
        logTime: reader.u64(),
        firstOffsets: emptySlots(),
        counts: emptySlots(),
        logTimes: emptySlots(),
        payloadCrcs: emptySlots(),
      };
      const kept = reader.u8();
      if (kept > SESSION_BATCHES_KEPT) throw new TidelineError('malformed-frame', `${kept} batches of a session`);
      for (let sequence = session.lastSequence - kept + 1; sequence <= session.lastSequence; sequence++) {
        const slot = sequence % SESSION_BATCHES_KEPT;
        session.firstOffsets[slot] = reader.u64();
        session.counts[slot] = reader.u32();
        session.logTimes[slot] = reader.u64();
        session.payloadCrcs[slot] = reader.u32();
      }
      table.sessions.add(session);
    }
    for (let left = reader.u32(); left > 0; left--) {
      table.keys.add({
        key: reader.bytes(16).toString('latin1'),
        older: null,
        newer: null,
        payloadCrc: reader.u32(),
        firstOffset: reader.u64(),
        lastOffset: reader.u64(),
        logTime: reader.u64(),
      });
    }
    return table;
  }
}

const emptySlots = (): number[] => Array.from({ length: SESSION_BATCHES_KEPT }, () => 0);

const refused = (
  code: ConstructorParameters<typeof TidelineError>[0],
  message: string,
  details: Readonly<Record<string, unknown>> = {},
): SessionVerdict => ({ kind: 'refused', error: new TidelineError(code, message, { details }) });

const undoOf = (offset: Offset, expiredSessions: Session[] | null, expiredKeys: IdempotencyKey[] | null): Undo => ({
  offset,
  expiredSessions,
  expiredKeys,
  addedSession: null,
  addedKey: null,
  touched: null,
  before: null,
  logTime: 0,
  slotFirstOffset: 0,
  slotCount: 0,
  slotLogTime: 0,
  slotPayloadCrc: 0,
});
