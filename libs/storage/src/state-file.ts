import { crc32 } from 'node:zlib';
import {
  TidelineError,
  asGroupId,
  asLogTime,
  asNodeId,
  asOffset,
  asTerm,
  readU32,
  readU64,
  writeU32,
  writeU64,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import type { DiskCallback, DiskFile, FileSystem } from './file-system.js';

/**
 * The hard state of a partition: the file `state`, 16 KiB, written synced.
 *
 *     position      0    record of even sequence        4096    the same again
 *     position   8192    record of odd sequence        12288    the same again
 *
 *     record, 128 bytes, within one sector
 *       0  u32  magic           "TLHS"
 *       4  u32  version         1
 *       8  u64  sequence        rises by one with each save; the highest good record is the state
 *      16  u32  group
 *      20  u32  term
 *      24  u32  vote
 *      28  u64  commit          lower bound
 *      36  u64  durable         watermark: the log was durable up to here, so a shorter one has lost something
 *      44  u64  baseOffset      the log starts after this offset
 *      52  u32  baseTerm
 *      56  u64  baseLogTime
 *      64  u32  minIncarnation  segments below it are dead (a snapshot replaced them)
 *      68  u32  nextIncarnation
 *      72  u64  truncateAfter   2^53 − 1: none; else a cut was begun and is finished by recovery
 *      80       zeros
 *     124  u32  crc             CRC-32 of bytes 0 … 123
 *
 * A save is one write of 8 KiB, two copies of the record in two pages; the next save goes to the other half. Each record lies in one
 * sector, so a crash leaves of every copy the old or the new, never a bad one: a copy that fails its checksum is damage. One
 * damaged copy is harmless (its twin is good) and is written anew; if both copies of a half are bad the newest vote
 * may be lost, and then the file is not used: a node that forgot its vote could vote twice.
 */
export const STATE_FILE = 'state';
const PAGE_BYTES = 4096;
const RECORD_BYTES = 128;
const STATE_BYTES = 4 * PAGE_BYTES;
const STATE_MAGIC = 0x53484c54;
const STATE_VERSION = 1;
const NO_TRUNCATION = Number.MAX_SAFE_INTEGER;

export interface StateRecord {
  term: Term;
  vote: NodeId;
  commit: Offset;
  durable: Offset;
  baseOffset: Offset;
  baseTerm: Term;
  baseLogTime: LogTime;
  minIncarnation: number;
  nextIncarnation: number;
  truncateAfter: Offset | null;
}

export const freshState = (): StateRecord => ({
  term: asTerm(0),
  vote: asNodeId(0),
  commit: asOffset(0),
  durable: asOffset(0),
  baseOffset: asOffset(0),
  baseTerm: asTerm(0),
  baseLogTime: asLogTime(0),
  minIncarnation: 1,
  nextIncarnation: 1,
  truncateAfter: null,
});

const encode = (group: GroupId, sequence: number, state: StateRecord): Buffer => {
  const bytes = Buffer.alloc(2 * PAGE_BYTES);
  writeU32(bytes, 0, STATE_MAGIC);
  writeU32(bytes, 4, STATE_VERSION);
  writeU64(bytes, 8, sequence);
  writeU32(bytes, 16, group);
  writeU32(bytes, 20, state.term);
  writeU32(bytes, 24, state.vote);
  writeU64(bytes, 28, state.commit);
  writeU64(bytes, 36, state.durable);
  writeU64(bytes, 44, state.baseOffset);
  writeU32(bytes, 52, state.baseTerm);
  writeU64(bytes, 56, state.baseLogTime);
  writeU32(bytes, 64, state.minIncarnation);
  writeU32(bytes, 68, state.nextIncarnation);
  writeU64(bytes, 72, state.truncateAfter ?? NO_TRUNCATION);
  writeU32(bytes, 124, crc32(bytes.subarray(0, 124)));
  bytes.copy(bytes, PAGE_BYTES, 0, RECORD_BYTES);
  return bytes;
};

interface SlotCopy {
  readonly position: number;
  readonly sequence: number;
  readonly group: GroupId;
  readonly version: number;
  readonly state: StateRecord;
}

const decode = (bytes: Buffer, position: number): SlotCopy | null => {
  const record = bytes.subarray(position, position + RECORD_BYTES);
  if (record.length < RECORD_BYTES || readU32(record, 0) !== STATE_MAGIC) return null;
  if (readU32(record, 124) !== crc32(record.subarray(0, 124))) return null;
  const truncateAfter = readU64(record, 72);
  const sequence = readU64(record, 8);
  // A good record in the other half's place was misdirected.
  if (sequence % 2 !== (position < 2 * PAGE_BYTES ? 0 : 1)) return null;
  return {
    position,
    sequence,
    version: readU32(record, 4),
    group: asGroupId(readU32(record, 16)),
    state: {
      term: asTerm(readU32(record, 20)),
      vote: asNodeId(readU32(record, 24)),
      commit: asOffset(readU64(record, 28)),
      durable: asOffset(readU64(record, 36)),
      baseOffset: asOffset(readU64(record, 44)),
      baseTerm: asTerm(readU32(record, 52)),
      baseLogTime: asLogTime(readU64(record, 56)),
      minIncarnation: readU32(record, 64),
      nextIncarnation: readU32(record, 68),
      truncateAfter: truncateAfter === NO_TRUNCATION ? null : asOffset(truncateAfter),
    },
  };
};

export interface StateInspection {
  readonly sequence: number;
  readonly state: StateRecord | null;
  /** Positions of copies that fail their checksum or belong elsewhere. */
  readonly badCopies: readonly number[];
  /** A half holds two different records: a write that a crash cut short, or a stale page. The newer one counts. */
  readonly uneven: boolean;
  /** Why the state cannot be used; null when it can. */
  readonly unusable: string | null;
  readonly version: number;
}

/** Judges the 16 KiB of a state file. */
export const inspectState = (bytes: Buffer, group: GroupId): StateInspection => {
  const copies = [0, 1, 2, 3].map((page) => decode(bytes, page * PAGE_BYTES));
  const badCopies = copies.flatMap((copy, page) => (copy === null || copy.group !== group ? [page * PAGE_BYTES] : []));
  let newest: SlotCopy | null = null;
  for (const copy of copies) if (copy && (newest === null || copy.sequence > newest.sequence)) newest = copy;
  const differ = (a: SlotCopy | null, b: SlotCopy | null): boolean =>
    a !== null && b !== null && a.sequence !== b.sequence;
  const uneven = differ(copies[0], copies[1]) || differ(copies[2], copies[3]);
  const version = newest?.version ?? 0;
  const bad = (unusable: string): StateInspection => ({
    sequence: 0,
    state: null,
    badCopies,
    uneven,
    unusable,
    version,
  });
  if (newest === null) return bad('no copy of the state is whole');
  if (newest.version !== STATE_VERSION)
    return bad(`state file version ${newest.version}, this program knows ${STATE_VERSION}`);
  if (newest.group !== group) return bad(`the state is that of group ${newest.group}, not ${group}`);
  const otherHalfIsBad = newest.position < 2 * PAGE_BYTES ? !copies[2] && !copies[3] : !copies[0] && !copies[1];
  if (otherHalfIsBad) return bad('both copies of one half are damaged; the newest vote may be among them');
  return { sequence: newest.sequence, state: newest.state, badCopies, uneven, unusable: null, version };
};

export class StateFile {
  private writing = false;
  private waiting: DiskCallback[] = [];
  private onIdle: (() => void) | null = null;

  private constructor(
    private readonly file: DiskFile,
    private readonly group: GroupId,
    /** What the next save writes. The owner changes it in place. */
    readonly record: StateRecord,
    private sequence: number,
  ) {}

  /**
   * Creates the file whole: it never exists half written under its name.
   * @throws Error of the file system
   */
  static createSync(fs: FileSystem, directory: string, group: GroupId): StateFile {
    const path = `${directory}/${STATE_FILE}`;
    const aside = fs.openSync(`${path}.tmp`, { create: true, synced: true });
    aside.truncateSync(0);
    const record = freshState();
    aside.writeSync(Buffer.concat([encode(group, 2, record), encode(group, 1, record)]), 0);
    aside.syncSync();
    aside.closeSync();
    fs.renameSync(`${path}.tmp`, path);
    fs.syncDirectorySync(directory);
    return new StateFile(fs.openSync(path, { synced: true }), group, record, 2);
  }

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  static openSync(
    fs: FileSystem,
    directory: string,
    group: GroupId,
  ): { file: StateFile; badCopies: readonly number[] } {
    const path = `${directory}/${STATE_FILE}`;
    const file = fs.openSync(path, { synced: true });
    const inspection = inspectState(file.readSync(STATE_BYTES, 0), group);
    if (inspection.unusable !== null || inspection.state === null) {
      file.closeSync();
      const code = inspection.version > STATE_VERSION ? 'unsupported-version' : 'storage-damaged';
      throw new TidelineError(
        code,
        `${path}: ${inspection.unusable}. This node does not know how it voted, so it must not take part under its id again: ` +
          `restore the file from a copy of the disk, or remove this node from the cluster and add it under a new id with an empty directory.`,
        { details: { file: path, group } },
      );
    }
    const state = new StateFile(file, group, inspection.state, inspection.sequence);
    // What was read may be in the page cache only, after a write that failed or a process that was killed: written anew, it is durable
    // before anybody relies on it.
    state.saveSync();
    // Twice, so that both halves hold good copies again and the damaged ones cannot be taken for a lost vote later.
    if (inspection.badCopies.length > 0 || inspection.uneven) state.saveSync();
    return { file: state, badCopies: inspection.badCopies };
  }

  private next(): { bytes: Buffer; position: number } {
    this.sequence++;
    return { bytes: encode(this.group, this.sequence, this.record), position: (this.sequence % 2) * 2 * PAGE_BYTES };
  }

  saveSync(): void {
    const { bytes, position } = this.next();
    this.file.writeSync(bytes, position);
  }

  /** Makes the record, as it is when the write starts, durable. Saves asked for while one is in flight share the next one. */
  save(done: DiskCallback): void {
    this.waiting.push(done);
    if (!this.writing) this.write();
  }

  private write(): void {
    const callers = this.waiting;
    this.waiting = [];
    this.writing = true;
    const { bytes, position } = this.next();
    this.file.write([bytes], position, (error) => {
      this.writing = false;
      if (!error && this.waiting.length > 0) this.write();
      for (const done of callers) done(error);
      if (error) for (const done of this.waiting.splice(0)) done(error);
      if (!this.writing && this.onIdle) {
        const idle = this.onIdle;
        this.onIdle = null;
        idle();
      }
    });
  }

  /** Calls back when no save is in flight. */
  whenIdle(idle: () => void): void {
    if (this.writing) this.onIdle = idle;
    else idle();
  }

  closeSync(): void {
    this.file.closeSync();
  }
}
