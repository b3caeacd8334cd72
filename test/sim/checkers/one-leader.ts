import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/** 1: at most one leader in a term of a group. */
export class OneLeaderChecker implements Checker {
  elected({ node, group, record }: Replica): void {
    const { term } = group;
    const leader = record.leaders.get(term);
    must(
      leader === undefined || leader === node,
      1,
      () => `nodes ${leader} and ${node} lead group ${group.id} in term ${term}`,
    );
  }
}
