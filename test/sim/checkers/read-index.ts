import type { Barrier } from '#command-log';
import type { GroupId } from '#kernel';
import { must } from '../violation.js';

/** 16: a barrier covers all that was committed before it was asked for · 24: its time does not go back behind one given out before it was asked. */
export class ReadIndexChecker {
  answered = 0;
  private readonly times = new Map<GroupId, number>();

  /** Returns what to call with the answer. `commitMax`: now. */
  asked(group: GroupId, commitMax: number): (barrier: Barrier) => void {
    const floor = this.times.get(group) ?? 0;
    return (barrier) => {
      this.answered++;
      must(
        barrier.offset >= commitMax,
        16,
        () =>
          `node ${barrier.node} answers a barrier of group ${group} with ${barrier.offset}, committed was ${commitMax}`,
      );
      must(
        barrier.time >= floor,
        24,
        () =>
          `node ${barrier.node} answers a barrier of group ${group} with time ${barrier.time}, after ${floor} was given out`,
      );
      if (barrier.time > (this.times.get(group) ?? 0)) this.times.set(group, barrier.time);
    };
  }
}
