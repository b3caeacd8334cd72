import { TidelineError, asOffset, type Offset, type Term } from '#kernel';
import type { SnapshotInfo } from '#raft';
import type { PartitionLog } from '#storage';
import { encodeCheckpoint } from './checkpoint-v1.js';
import type { GroupCounters } from './group-counters.js';
import { advanceBase, baseOf, stateOfSnapshot, type LogBase } from './log-base.js';
import { LogState } from './log-state.js';
import type { PersistQueue } from './persist-queue.js';
import type { RepairSnapshot } from './raft-messages-v1.js';
import type { ReplicaLimits, ReplicaMutants } from './replica-limits.js';

/** The group, as its checkpoints see it. */
export interface CheckpointedGroup {
  readonly log: PartitionLog;
  readonly limits: ReplicaLimits;
  readonly mutants: ReplicaMutants;
  readonly counters: GroupCounters;
  readonly queue: PersistQueue;
  /** Of the end of the log. */
  state(): LogState;
  readable(): Offset;
  /** Why the group has stopped; null while it works. */
  failure(): TidelineError | null;
  fail(error: Error): void;
  /** The base of the log has moved. */
  trimmed(): void;
  wake(): void;
}

interface PendingCheckpoint {
  readonly offset: Offset;
  readonly term: Term;
  readonly bytes: Buffer;
  readonly ended: (saved: boolean) => void;
}

const ignore = (): void => {};

/**
 * Checkpoints of one group, and the base that its log can be trimmed to.
 *
 *        base                    checkpoint            end
 *     ────┼──────────────────────────┼──────────────────┼──
 *         │ what a follower gets     │ where opening    │
 *         │ that is behind           │ begins to scan   │
 *
 * A checkpoint is taken of the end of the log, because that is where the state is, and saved once the log is committed and durable up to there.
 * It carries the state at the base along. To trim, the base moves forward first (by folding what will be let go), and is
 * made durable with a checkpoint; then the log lets go.
 */
export class GroupCheckpoints {
  private pending: PendingCheckpoint | null = null;
  private saving = false;
  private moving = false;
  private bytesSince = 0;

  constructor(
    private readonly group: CheckpointedGroup,
    private current: LogBase,
  ) {}

  get base(): LogBase {
    return this.current;
  }

  /** The voters a group began with are an option of the process; from the first start on they are part of its data. */
  rememberFirstVoters(): void {
    const { log } = this.group;
    if (log.checkpoints.length === 0 && log.lastOffset === 0) this.take(this.current, ignore);
  }

  /** What a follower gets in place of what has been trimmed. */
  snapshot(): SnapshotInfo {
    const { offset, term, configuration, bytes } = this.current;
    return { offset, term, configuration, state: encodeCheckpoint(this.asKept(bytes), null) };
  }

  appended(bytes: number): void {
    this.bytesSince += bytes;
  }

  /** The log was cut after `offset`. */
  cutAfter(offset: Offset): void {
    if (this.pending !== null && this.pending.offset > offset) this.drop();
  }

  /** A snapshot of this state has taken the place of the log up to there. */
  replaced(state: LogState): void {
    this.current = baseOf(state);
    this.bytesSince = 0;
    this.drop();
  }

  /** Takes a checkpoint when one is due, and saves the one that can be saved. */
  settle(): void {
    const { group } = this;
    if (this.saving) return;
    if (this.pending === null && this.bytesSince >= group.limits.checkpointBytes) this.take(this.current, ignore);
    const checkpoint = this.pending;
    if (checkpoint === null || checkpoint.offset > group.readable()) return;
    this.pending = null;
    this.saving = true;
    group.log.saveCheckpoint(checkpoint, (error) => {
      this.saving = false;
      if (group.failure() !== null) return;
      if (error !== null) {
        group.fail(error);
        return;
      }
      group.counters.checkpoints++;
      checkpoint.ended(true);
      group.wake();
    });
  }

  /** See Group.trimBefore. */
  trimBefore(offset: Offset, done: (error: TidelineError | null) => void): void {
    const { group } = this;
    const to = asOffset(Math.min(offset - 1, group.readable()));
    const base = this.current;
    if (group.failure() !== null || this.moving || to <= base.offset) {
      done(group.failure());
      return;
    }
    this.moving = true;
    advanceBase(group.log, base, { to, sessions: group.limits.sessions }, (error, advanced) => {
      // Closed, failed, unreadable, or replaced by a snapshot meanwhile.
      if (error !== null || group.failure() !== null || this.current !== base) {
        this.moving = false;
        done(group.failure() ?? (error === null || error instanceof TidelineError ? error : unreadable(error)));
        return;
      }
      this.drop();
      this.take(advanced, (saved) => {
        this.moving = false;
        // A snapshot may have taken the place of the log while the checkpoint was saved: its base is further on.
        if (saved && this.current === base) {
          this.current = advanced;
          group.log.trimBefore(asOffset(advanced.offset + 1));
          group.trimmed();
        }
        done(group.failure());
      });
    });
  }

  /** What is damaged here has been trimmed elsewhere: it is let go here, too, once it is committed here. */
  adopt(snapshot: RepairSnapshot): void {
    const { group } = this;
    const { offset, term, state } = snapshot;
    if (offset > group.readable() || offset <= this.current.offset || this.moving) return;
    const base = baseOf(stateOfSnapshot(snapshot, group.limits.sessions)!);
    this.moving = true;
    this.drop();
    group.queue.replacePrefix({ offset, term, logTime: base.logTime, keepSuffix: true, state }, () => {
      this.moving = false;
      if (base.offset > this.current.offset) this.current = base;
      group.trimmed();
    });
  }

  /** Ends the wait for a checkpoint that will not be saved. */
  drop(): void {
    const dropped = this.pending;
    this.pending = null;
    dropped?.ended(false);
  }

  private take(base: LogBase, ended: (saved: boolean) => void): void {
    const state = this.group.state();
    this.bytesSince = 0;
    this.pending = {
      offset: state.lastOffset,
      term: state.lastTerm,
      bytes: encodeCheckpoint(this.asKept(state.encode()), this.asKept(base.bytes)),
      ended,
    };
    this.group.wake();
  }

  /** A state as it is written to disk and sent to others. */
  private asKept(state: Buffer): Buffer {
    const { mutants, limits } = this.group;
    return mutants.sessionsLeftOut ? LogState.decode(state, limits.sessions).withoutSessions().encode() : state;
  }
}

const unreadable = (error: Error): TidelineError => new TidelineError('internal', error.message, { cause: error });
