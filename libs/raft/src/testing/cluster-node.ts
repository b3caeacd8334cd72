import { NO_OFFSET, asOffset, assert, type NodeId, type Offset, type Rng } from '#kernel';
import { RaftCore } from '../raft-core.js';
import { DiskImage } from './disk-image.js';
import type {
  ChangeResult,
  Configuration,
  Entry,
  LogRead,
  Message,
  ProposeResult,
  RaftEvent,
  RaftOptions,
  Ready,
} from '../types.js';

export type CoreOptions = Pick<
  RaftOptions,
  | 'electionTicks'
  | 'heartbeatTicks'
  | 'messageBytesMax'
  | 'inflightBytesMax'
  | 'uncommittedBytesMax'
  | 'cacheBytesMax'
  | 'announcesOnOrder'
  | 'mutants'
> & {
  /** Reads by lease: what followers promise, in ms of their clocks. */
  readonly leaseMs?: number;
};

export const CORE_OPTIONS: CoreOptions = {
  electionTicks: 10,
  heartbeatTicks: 1,
  messageBytesMax: 1 << 20,
  inflightBytesMax: 4 << 20,
  uncommittedBytesMax: 64 << 20,
  cacheBytesMax: 16 << 20,
};

export const textBytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const bytesText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** What a node asks of its surroundings. */
export interface NodeHost {
  send(message: Message): void;
  /** A unit waits to be written: `node.persistNext()` some time later. */
  persistDue(node: ClusterNode): void;
  /** Answer with `node.answerLogRead(read)` some time later. */
  logReadDue(node: ClusterNode, read: LogRead): void;
  /** Answer with `node.answerSnapshotWanted(peer)` some time later. */
  snapshotDue(node: ClusterNode, peer: NodeId): void;
  /** Everything a ready says, before it is carried out. */
  observe(node: ClusterNode, ready: Ready): void;
  /** The node's clock; asked with leases only. */
  monotonicMs(id: NodeId): number;
}

/** One node: a core, its disk, and as small a driver as can be. A turn is one event (or several proposals) and what it led to. */
export class ClusterNode {
  readonly id: NodeId;
  readonly disk: DiskImage;
  /** The log as the core sees it: what is on disk when all units are written. */
  volatile: DiskImage;
  core: RaftCore;
  isUp = true;
  private inTurn = false;
  /** Units not yet written, oldest first, each with the messages that wait for it. */
  readonly pending: { readonly unit: Ready; readonly messages: Message[] }[] = [];
  private readonly host: NodeHost;
  private readonly options: CoreOptions;
  private readonly rng: Rng;

  constructor(id: NodeId, disk: DiskImage, parts: { host: NodeHost; options: CoreOptions; rng: Rng }) {
    this.id = id;
    this.disk = disk;
    this.volatile = disk.copy();
    this.host = parts.host;
    this.options = parts.options;
    this.rng = parts.rng;
    this.core = this.start();
  }

  private start(): RaftCore {
    const { leaseMs, ...options } = this.options;
    return new RaftCore({
      ...options,
      ...(leaseMs !== undefined && {
        readLease: { promiseMs: leaseMs, startMs: this.host.monotonicMs(this.id) },
      }),
      id: this.id,
      rng: this.rng,
      hardState: this.disk.hardState,
      log: this.disk.summary(),
    });
  }

  private lookAtClock(): void {
    if (this.options.leaseMs === undefined) return;
    this.core.step({ type: 'time', monotonicMs: this.host.monotonicMs(this.id) });
  }

  step(event: RaftEvent): void {
    this.lookAtClock();
    this.core.step(event);
    this.drain();
  }

  tick(times = 1): void {
    for (let i = 0; i < times; i++) this.step({ type: 'tick' });
  }

  /** Several batches in one turn; each takes as many offsets as its text has words. */
  propose(...texts: string[]): ProposeResult[] {
    const results = texts.map((text) => this.core.propose(text.split(' ').length, textBytes(text)));
    this.drain();
    return results;
  }

  read(id: number): boolean {
    this.lookAtClock();
    const accepted = this.core.requestRead(id);
    this.drain();
    return accepted;
  }

  change(target: Pick<Configuration, 'voters' | 'learners'>): ChangeResult {
    const result = this.core.proposeConfiguration(target);
    this.drain();
    return result;
  }

  /** Events and proposals gather until `endTurn`. */
  beginTurn(): void {
    this.inTurn = true;
  }

  endTurn(): void {
    this.inTurn = false;
    if (this.isUp) this.drain();
  }

  drain(): void {
    if (this.inTurn) return;
    while (this.core.hasReady()) this.carryOut(this.core.ready());
  }

  private carryOut(ready: Ready): void {
    for (const entry of ready.entries) this.encode(entry);
    this.host.observe(this, ready);
    if (ready.persist !== null) this.volatile.write(ready);
    if (ready.commit !== null) this.volatile.commit = ready.commit;
    for (const message of ready.messages) this.host.send(message);
    if (ready.persist !== null) {
      this.pending.push({ unit: ready, messages: [...ready.messagesAfterPersist] });
      this.host.persistDue(this);
    } else if (ready.messagesAfterPersist.length > 0) {
      const last = this.pending[this.pending.length - 1];
      if (last === undefined) for (const message of ready.messagesAfterPersist) this.host.send(message);
      else last.messages.push(...ready.messagesAfterPersist);
    }
    for (const read of ready.logReads) this.host.logReadDue(this, read);
    for (const peer of ready.snapshotsWanted) this.host.snapshotDue(this, peer);
  }

  /** The driver's part of an entry that the core made; its text tells who wrote it. */
  private encode(entry: Entry): void {
    if (entry.bytes.length > 0) return;
    assert(entry.kind !== 'data', 'proposals carry their bytes');
    entry.bytes = textBytes(`${entry.kind} of ${this.id} in ${entry.term}`);
  }

  /** Writes the oldest unit, sends what waited for it, and tells the core. */
  persistNext(): void {
    const next = this.pending.shift();
    if (next === undefined) return;
    this.disk.write(next.unit);
    this.saveCommit();
    for (const message of next.messages) this.host.send(message);
    assert(next.unit.persist !== null, 'a unit has a number');
    this.step({ type: 'persisted', persist: next.unit.persist });
  }

  persistAll(): void {
    while (this.pending.length > 0) this.persistNext();
  }

  /** The watermark lags behind, and never covers what is not on disk. */
  private saveCommit(): void {
    const { commit } = this.volatile;
    // A cut that is still to be written may lie below the end of the disk's log.
    const durable = Math.min(commit, this.core.status().durableOffset, this.disk.lastOffset);
    if (durable > this.disk.commit && this.disk.entryAt(asOffset(durable))?.lastOffset === durable) {
      this.disk.commit = asOffset(durable);
    }
  }

  answerLogRead(read: LogRead): void {
    const entries = this.disk.read(read.from, read.bytesMax);
    this.step({ type: 'log-read', peer: read.peer, from: read.from, entries });
  }

  /** With a snapshot at `offset`, which ends a committed entry; at the base of the log by default. */
  answerSnapshotWanted(peer: NodeId, offset: Offset = this.volatile.baseOffset): void {
    const { volatile } = this;
    const term = volatile.termAt(offset);
    assert(term !== undefined && offset <= volatile.commit, 'a snapshot is of committed entries');
    const { configuration } = volatile.configurationAt(offset);
    const snapshot = { offset, term, configuration, state: textBytes(`state at ${offset}`) };
    this.step({ type: 'snapshot-ready', peer, snapshot });
  }

  /** Lets go of the log up to `offset`, which ends an entry that is committed and on disk. */
  trim(offset: Offset): void {
    const { disk, volatile } = this;
    assert(
      offset <= volatile.commit && disk.entryAt(offset)?.lastOffset === offset,
      'a trim keeps what is not committed',
    );
    if (disk.commit < offset) disk.commit = offset;
    disk.trimTo(offset);
    volatile.trimTo(offset);
    this.step({ type: 'trimmed', baseOffset: offset, baseTerm: disk.baseTerm });
  }

  /**
   * Power off. Of the units under way the first `units` reach the disk, and `entries` entries of the one after them; a unit that installs a
   * snapshot does so wholly or not at all.
   */
  crash(units = 0, entries: number | null = null): void {
    this.isUp = false;
    for (let i = 0; i < units && i < this.pending.length; i++) this.disk.write(this.pending[i].unit);
    const torn = this.pending[units];
    if (entries !== null && torn !== undefined && torn.unit.snapshot === null) this.disk.write(torn.unit, entries);
    this.pending.length = 0;
  }

  restart(): void {
    assert(!this.isUp, 'only a stopped node is started');
    this.isUp = true;
    this.volatile = this.disk.copy();
    this.core = this.start();
    this.drain();
  }

  /** Texts of the log's entries; empty places for what is no longer in it. */
  get texts(): string[] {
    return this.volatile.entries.map((entry) => bytesText(entry.bytes));
  }

  /** Terms of the offsets after base. */
  get terms(): number[] {
    return this.volatile.entries.flatMap((entry) =>
      Array.from({ length: entry.lastOffset - entry.firstOffset + 1 }, () => entry.term),
    );
  }

  get durableEnd(): Offset {
    return this.isUp ? this.core.status().durableOffset : (this.disk.lastOffset ?? NO_OFFSET);
  }
}
