import type { Barrier } from '#command-log';
import type { GroupId } from '#kernel';
import { must } from '../violation.js';

/** 16: a barrier covers all that was committed before it was asked for: only who has proved itself to lead since can say so. */
export class ReadIndexChecker {
  answered = 0;

  /** `commitMax`: when it was asked for. */
  check(group: GroupId, commitMax: number, barrier: Barrier): void {
    this.answered++;
    must(
      barrier.offset >= commitMax,
      16,
      () =>
        `node ${barrier.node} answers a barrier of group ${group} with ${barrier.offset}, committed was ${commitMax}`,
    );
  }
}
