import { NO_OFFSET, asOffset, assert, type NodeId, type Offset } from '#kernel';

/**
 * What a leader knows of one member, itself included.
 *
 *          rejected / connection lost                 next is no longer in the log
 *        ┌──────────────────────────────┐          ┌───────────────────────────────┐
 *        ▼                              │          │                               ▼
 *      probe ───────── accepted ──► replicate ─────┘                            snapshot
 *        ▲ │                            ▲                                        │   │
 *        │ └── next not in the log ─────┼──────────────────────────────────► ────┘   │
 *        │                              └───────────────── installed ────────────────┤
 *        └───────────────────────────── no answer ───────────────────────────────────┘
 *
 *  - probe: where the logs part is not known; one append at a time.
 *  - replicate: `next` runs ahead of what is acknowledged, as far as the bytes in flight allow.
 *  - snapshot: nothing is sent until the follower's log begins where the leader's does.
 *
 * Invariant: match < next. `match` never goes back within a term.
 */

/** Append messages in flight to one follower, whatever their size. */
export const INFLIGHT_MESSAGES_MAX = 4096;

export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export class Progress {
  readonly id: NodeId;
  state: ProgressState = 'probe';
  /** Everything up to here is durable there and equal to the leader's log. On the leader itself: what is durable. */
  match: Offset = NO_OFFSET;
  /** The next offset to send. */
  next: Offset;
  /** The highest commit offset the follower has been told with a message it can act on. */
  commitSent: Offset = NO_OFFSET;
  /** Tick of the last message from it. */
  heardAt: number;
  /** The latest heartbeat round it answered. */
  roundAcked = 0;
  /** With leases: until then, by the leader's clock, it gives nobody else its vote. */
  promisedUntilMs = Number.NEGATIVE_INFINITY;

  /** Probe: the one append is under way, since this tick. */
  probeSent = false;
  probeSentAt = 0;
  /** Replicate: tick of the last append response, or of the last look whether one was missing. */
  answeredAt = 0;
  /** An empty append is due, to learn whether what was sent has arrived. */
  checkDue = false;
  /** Storage had nothing for the last log read; wait for a heartbeat response before asking again. */
  readStalled = false;
  /** Snapshot: the driver has been asked for one; tick since which the state lasts or the snapshot is on its way. */
  snapshotAsked = false;
  snapshotSince = 0;

  /** Ends and sizes of the appends in flight, oldest first, from `inflightHead`. */
  private readonly inflightEnds: Offset[] = [];
  private readonly inflightSizes: number[] = [];
  private inflightHead = 0;
  inflightBytes = 0;

  constructor(id: NodeId, next: Offset, now: number) {
    this.id = id;
    this.next = next;
    this.heardAt = now;
    this.answeredAt = now;
  }

  /** Where the logs part is unknown again; goes on from `next`, or from what is known to match. */
  becomeProbe(next: Offset): void {
    this.state = 'probe';
    this.next = asOffset(Math.max(next, this.match + 1));
    this.probeSent = false;
    this.checkDue = false;
    this.clearInflight();
  }

  becomeReplicate(now: number): void {
    this.state = 'replicate';
    this.next = asOffset(this.match + 1);
    this.probeSent = false;
    this.answeredAt = now;
    this.checkDue = false;
    this.clearInflight();
  }

  becomeSnapshot(now: number): void {
    this.state = 'snapshot';
    this.snapshotSince = now;
    this.probeSent = false;
    this.checkDue = false;
    this.clearInflight();
  }

  canPipeline(inflightBytesMax: number): boolean {
    return (
      this.inflightBytes < inflightBytesMax && this.inflightEnds.length - this.inflightHead < INFLIGHT_MESSAGES_MAX
    );
  }

  /** Replicate: an append up to `end` has been sent. */
  sent(end: Offset, bytes: number): void {
    assert(end >= this.next, 'an append carries something new');
    this.next = asOffset(end + 1);
    this.inflightEnds.push(end);
    this.inflightSizes.push(bytes);
    this.inflightBytes += bytes;
  }

  /** Whether this is news. */
  acknowledge(offset: Offset): boolean {
    while (this.inflightHead < this.inflightEnds.length && this.inflightEnds[this.inflightHead] <= offset) {
      this.inflightBytes -= this.inflightSizes[this.inflightHead];
      this.inflightHead++;
    }
    if (this.inflightHead === this.inflightEnds.length) this.clearInflight();
    else if (this.inflightHead >= INFLIGHT_MESSAGES_MAX) {
      this.inflightEnds.splice(0, this.inflightHead);
      this.inflightSizes.splice(0, this.inflightHead);
      this.inflightHead = 0;
    }
    if (offset <= this.match) return false;
    this.match = offset;
    if (this.next <= offset) this.next = asOffset(offset + 1);
    return true;
  }

  private clearInflight(): void {
    this.inflightEnds.length = 0;
    this.inflightSizes.length = 0;
    this.inflightHead = 0;
    this.inflightBytes = 0;
  }
}
