import type { Barrier } from '#command-log';
import type { GroupId } from '#kernel';
import { must } from '../violation.js';

/**
 * 24: expiry goes by log time alone. An entry that a linearizable read did not see because it had expired is not seen by any later one, whichever
 * gateway is asked; and the time of a barrier does not go back behind one given out before it was asked for.
 */
export class ExpiryChecker {
  absences = 0;
  /** When the first read that found the key gone after it had been there came back. */
  private readonly goneSince = new Map<string, number>();
  /** Since when the key is known to have been written. */
  private readonly seen = new Map<string, number>();
  private readonly times = new Map<GroupId, number>();

  /** The write was acknowledged: from now on the key is there or has expired. */
  written(key: string, at: number): void {
    if (!this.seen.has(key)) this.seen.set(key, at);
  }

  read(key: string, found: boolean, invokedAt: number, returnedAt: number): void {
    const gone = this.goneSince.get(key);
    if (found) {
      must(
        gone === undefined || gone >= invokedAt,
        24,
        () =>
          `key ${key} had expired at ${gone?.toFixed(3)} ms and is back for a read begun at ${invokedAt.toFixed(3)} ms`,
      );
      this.written(key, returnedAt);
    } else if ((this.seen.get(key) ?? Number.POSITIVE_INFINITY) < invokedAt) {
      this.absences++;
      if (gone === undefined || returnedAt < gone) this.goneSince.set(key, returnedAt);
    }
  }

  /** The latest time given out so far. */
  barrierTime(group: GroupId): number {
    return this.times.get(group) ?? 0;
  }

  /** `floor`: `barrierTime` when it was asked for. */
  barrier(group: GroupId, floor: number, barrier: Barrier): void {
    must(
      barrier.time >= floor,
      24,
      () =>
        `node ${barrier.node} answers a barrier of group ${group} with time ${barrier.time}, after ${floor} was given out`,
    );
    if (barrier.time > this.barrierTime(group)) this.times.set(group, barrier.time);
  }
}
