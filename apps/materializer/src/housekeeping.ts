import type { CommandLog } from '#command-log';
import { repeatWithin, type Clock, type LoopShare, type MsLeft, type Scheduler } from '#kernel';
import type { MapView } from '#views';
import { askForTime, isOpen, type HostedPartition, type HostedView } from './hosted-partition.js';

const INTERVAL_MS = 100;
/** Entries that may have expired looked at between looks at the clock. */
const EXPIRE_STEP = 50;
/** Looked through for dead ones between looks at the clock. */
const RECLAIM_STEP_BYTES = 32 * 1024;

/** True: it was cut short for want of time, and nothing else is begun in this turn. */
type Step = (left: MsLeft) => boolean;

/**
 * Removes what has expired and gives memory back, round by round through all views: at an interval, or without a pause while there is more that has
 * expired. A step at a time, within what all of the host's work may take of a turn.
 */
export class Housekeeping {
  private cancelNext: (() => void) | null = null;
  private closed = false;
  /** What is to be done yet in this round. */
  private steps: Iterator<Step, void, undefined> = [][Symbol.iterator]();
  /** In this round there was more to remove than was. */
  private more = false;

  constructor(
    private readonly options: {
      readonly log: CommandLog;
      readonly clock: Clock;
      readonly scheduler: Scheduler;
      readonly share: LoopShare;
      readonly views: () => Iterable<HostedView>;
      readonly expired: (view: string, partition: number, count: number) => void;
    },
  ) {
    this.restLater();
  }

  private restLater(): void {
    this.cancelNext = this.options.scheduler.after(INTERVAL_MS, this.round);
  }

  private readonly round = (): void => {
    this.more = false;
    this.steps = this.stepsOfRound();
    this.options.share.run(this.work);
  };

  private readonly work = (left: MsLeft): void => {
    if (this.closed) return;
    for (let isCutShort = false; !isCutShort && left() > 0;) {
      const step = this.steps.next();
      if (step.done === true) {
        if (this.more) this.round();
        else this.restLater();
        return;
      }
      isCutShort = step.value(left);
    }
    this.options.share.run(this.work);
  };

  private *stepsOfRound(): Generator<Step, void, undefined> {
    const { log, clock, views } = this.options;
    for (const { name, topic, partitions } of views()) {
      for (const hosted of partitions.filter(isOpen)) {
        const { view, feed, archiver } = hosted;
        // Other turns go by between two steps.
        if (feed.isClosed) continue;
        if (archiver) archiver.work();
        else yield (left) => this.expire(name, hosted, left);
        if (!feed.isClosed) yield (left) => reclaim(view, left);
        if (!feed.isClosed) askForTime(topic, hosted, log, clock.wallMs());
      }
    }
  }

  /** As much of what has expired as there is time for. */
  private expire(name: string, { view, partition }: HostedPartition, left: MsLeft): boolean {
    let removed = 0;
    const more = repeatWithin(left, () => {
      removed += view.expire({ until: view.logTime, max: EXPIRE_STEP });
      return (view.nextExpiry() ?? Infinity) <= view.logTime;
    });
    if (more) this.more = true;
    if (removed > 0) this.options.expired(name, partition, removed);
    return more;
  }

  close(): void {
    this.closed = true;
    this.cancelNext?.();
  }
}

const reclaim = (view: MapView, left: MsLeft): boolean =>
  repeatWithin(left, () => view.reclaim(RECLAIM_STEP_BYTES) > 0);
