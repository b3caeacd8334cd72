import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/** 7: terms and a process's commit offset do not go back, and terms and votes survive restarts. */
export class NoWayBackChecker implements Checker {
  termMoved({ node, group }: Replica, from: number): void {
    must(group.term > from, 7, () => `node ${node} goes back from term ${from} to ${group.term} in group ${group.id}`);
  }

  commitMoved({ node, group }: Replica, from: number): void {
    must(group.commitOffset > from, 7, () => `the commit offset of node ${node} goes back to ${group.commitOffset}`);
  }

  recovered: Checker['recovered'] = (record, before, now) => {
    must(
      now.term > before.term || (now.term === before.term && (before.vote === 0 || now.vote === before.vote)),
      7,
      () =>
        `node ${now.node} comes back to group ${record.id} with term ${now.term} and vote ${now.vote}, durable were ${before.term} and ${before.vote}`,
    );
  };
}
