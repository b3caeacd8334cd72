import { NO_NODE, NO_TERM, TidelineError, asOffset, type NodeId, type Offset, type Term } from '#kernel';
import type { DurableState, PartitionLog, PersistRequest } from '#storage';
import { batchFirstOffset, batchLastOffset, batchTerm } from '#wire';
import { stateOfSnapshot } from './log-base.js';
import type { RepairRequest, RepairResponse, RepairSnapshot } from './raft-messages-v1.js';
import type { SessionLimits } from './session-table.js';

export interface LogRepairOptions {
  readonly nodeId: NodeId;
  /** Everybody who may have the group. */
  readonly peers: readonly NodeId[];
  /** Ticks between two questions when no answer leads to the next. */
  readonly askEveryTicks: number;
  /** Set while a core works on the log: it is not cut then, and a state in place of what the peers have trimmed goes through here. */
  readonly adopt: ((snapshot: RepairSnapshot) => void) | null;
  readonly sessions: SessionLimits;
  readonly send: (request: RepairRequest) => void;
  /** Nothing is damaged any more. */
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/**
 * Replaces the damaged ranges of a log by committed batches of its peers, one range after the other, each peer asked in turn.
 *
 * A range with an end: any replica's committed batches will do. They are fetched up to and including the first good batch behind the range; if
 * that is of the same term in both logs they agree up to there, and the range is repaired. If it is not, everything from the
 * damage on was never committed: it is cut, and what was fetched takes its place.
 *
 * A range without an end, at the end of the log: nobody knows any more what this node has acknowledged there. It takes what a leader has
 * committed that was elected in a later term than any this node was part of: every entry that was ever committed with the help of this
 * node is in that leader's log, below its commit offset. A leader of an earlier term that is asked hands over first.
 */
export class LogRepair {
  private gathered: Uint8Array[] = [];
  /** What comes before `gathered`, when the peer's log begins behind an open range's beginning. */
  private snapshot: RepairSnapshot | null = null;
  private next: Offset;
  /** Where an open range ends, once a leader has said so. */
  private target: Offset | null = null;
  private ticks = 0;
  private turn = 0;
  private writing = false;
  private ended = false;

  constructor(
    private readonly log: PartitionLog,
    private readonly options: LogRepairOptions,
  ) {
    this.next = log.damaged[0].fromOffset;
  }

  private get range(): { readonly fromOffset: Offset; readonly toOffset: Offset | null } {
    return this.log.damaged[0];
  }

  stop(): void {
    this.ended = true;
  }

  tick(): void {
    if (this.ended || this.writing) return;
    if (this.log.damaged.length === 0) {
      this.ended = true;
      this.options.done();
      return;
    }
    if (this.ticks++ % this.options.askEveryTicks !== 0) return;
    const { peers } = this.options;
    // Whoever answers next begins the range anew: peers may differ in what they have.
    this.begin();
    this.ask(peers[this.turn++ % peers.length]);
  }

  private begin(): void {
    this.gathered = [];
    this.snapshot = null;
    this.target = null;
    this.next = this.range.fromOffset;
  }

  private ask(peer: NodeId): void {
    const { toOffset } = this.range;
    this.options.send({
      type: 'repair-request',
      from: this.options.nodeId,
      to: peer,
      term: this.log.state.term,
      fromOffset: this.next,
      toOffset: toOffset ?? asOffset(0),
    });
  }

  receive(response: RepairResponse): void {
    if (this.ended || this.writing || response.fromOffset !== this.next || this.log.damaged.length === 0) return;
    const { snapshot } = response;
    if (snapshot !== null && stateOfSnapshot(snapshot, this.options.sessions) === null) return;
    if (this.range.toOffset === null) this.continueOpen(response);
    else if (snapshot !== null) this.replacePrefix(snapshot, this.range.toOffset);
    else this.continueClosed(response, this.range.toOffset);
  }

  private continueOpen({ from, term, commit, batches, snapshot }: RepairResponse): void {
    if (term <= this.log.state.term) return;
    this.target ??= commit;
    if (snapshot !== null) {
      this.snapshot = snapshot;
      this.gathered = [];
      this.next = asOffset(snapshot.offset + 1);
    }
    for (const batch of batches) {
      if (batchFirstOffset(batch) !== this.next || batchFirstOffset(batch) > this.target) break;
      this.take(batch);
    }
    if (this.next > this.target) {
      if (this.snapshot === null) this.repair();
      else this.install(this.snapshot, false);
    } else if (batches.length > 0 || snapshot !== null) this.askOn(from);
  }

  /**
   * The damaged batches have been trimmed from the peer's log: its state stands for them here, too. What comes behind is kept if it follows
   * from that state, and was never committed if it does not.
   */
  private replacePrefix(snapshot: RepairSnapshot, toOffset: Offset): void {
    const { offset, term } = snapshot;
    const { adopt } = this.options;
    if (adopt !== null) {
      adopt(snapshot);
      return;
    }
    if (offset < toOffset || offset > this.log.lastOffset) {
      this.install(snapshot, offset < toOffset);
      return;
    }
    this.writing = true;
    this.log.read({ from: offset, to: this.log.lastOffset, bytesMax: 1 }, (error, ours) => {
      if (this.ended) return;
      this.writing = false;
      this.install(snapshot, error !== null || batchTerm(ours) === term);
    });
  }

  private install({ offset, term, state }: RepairSnapshot, keepSuffix: boolean): void {
    this.writing = true;
    const { logTime } = stateOfSnapshot({ offset, term, state }, this.options.sessions)!;
    const install = { offset, term, logTime, keepSuffix, state };
    this.log.persist({ install, state: this.stateFor(term), ...this.replacement() }, (error) => this.written(error));
  }

  /** What takes the place of a damaged end: this node may have acknowledged every one of these batches, so half of them is damage, too. */
  private replacement(): Pick<PersistRequest, 'batches' | 'promisedUpTo'> {
    const { gathered } = this;
    const last = gathered[gathered.length - 1];
    return last === undefined ? { batches: gathered } : { batches: gathered, promisedUpTo: batchLastOffset(last) };
  }

  private continueClosed({ from, batches }: RepairResponse, toOffset: Offset): void {
    for (const batch of batches) {
      if (batchFirstOffset(batch) !== this.next) return;
      if (this.next === toOffset) {
        this.compare(batch, toOffset);
        return;
      }
      this.take(batch);
      if (this.next > toOffset) {
        this.cut();
        return;
      }
    }
    if (batches.length > 0) this.askOn(from);
  }

  private take(batch: Uint8Array): void {
    this.gathered.push(batch);
    this.next = asOffset(batchLastOffset(batch) + 1);
  }

  private askOn(peer: NodeId): void {
    this.ticks = 1;
    this.ask(peer);
  }

  /** The peer's batch behind the range, against this log's. */
  private compare(theirs: Uint8Array, offset: Offset): void {
    this.writing = true;
    this.log.read({ from: offset, to: this.log.lastOffset, bytesMax: 1 }, (error, ours) => {
      if (this.ended) return;
      this.writing = false;
      // Another damage right behind this one: then this range has nothing to be compared with but what the peers have.
      if (error !== null) this.repair();
      else if (batchFirstOffset(ours) === offset && (batchTerm(ours) as Term) === batchTerm(theirs)) this.repair();
      else this.cut();
    });
  }

  /** A log may hold no entry of a later term than the hard state: a term this node was not part of, so it has no vote in it. */
  private stateFor(installed: Term): DurableState {
    const { state } = this.log;
    const last = this.gathered[this.gathered.length - 1];
    const term = last === undefined ? installed : batchTerm(last);
    return term > state.term ? { term, vote: NO_NODE, commit: state.commit } : state;
  }

  private repair(): void {
    this.writing = true;
    const { log } = this;
    const state = this.stateFor(NO_TERM);
    const replace = (): void => log.repair(this.gathered, (error) => this.written(error));
    if (state === log.state) replace();
    else {
      log.persist({ state, batches: [] }, (error) => {
        if (error !== null) this.written(error);
        else if (!this.ended) replace();
      });
    }
  }

  private cut(): void {
    if (this.options.adopt !== null) {
      this.options.failed(new TidelineError('storage-damaged', 'a damaged range of a running log is not committed'));
      return;
    }
    this.writing = true;
    const truncateAfter = asOffset(this.range.fromOffset - 1);
    this.log.persist({ state: this.stateFor(NO_TERM), truncateAfter, ...this.replacement() }, (error) =>
      this.written(error),
    );
  }

  private written(error: Error | null): void {
    if (this.ended) return;
    this.writing = false;
    if (error !== null && !(error instanceof TidelineError)) {
      this.ended = true;
      this.options.failed(error);
    } else if (this.log.damaged.length === 0) {
      this.ended = true;
      this.options.done();
    } else this.begin();
  }
}
