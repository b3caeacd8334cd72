import type { NodeId } from '#kernel';
import type { Checker, GroupRecord } from '../observer.js';
import { must } from '../violation.js';

/** 8: one vote in a term, and term and vote are durable, together, before anything that depends on them leaves. */
export class OneVoteChecker implements Checker {
  private readonly votes = new Map<string, NodeId>();

  sent: Checker['sent'] = (record, message) => {
    const shadow = record.shadow(message.from);
    switch (message.type) {
      case 'vote-response':
        if (!message.granted || message.preVote) return;
        this.count(record, message.term, message.from, message.to);
        must(
          shadow.term > message.term || (shadow.term === message.term && shadow.vote === message.to),
          8,
          () =>
            `node ${message.from} votes for ${message.to} in term ${message.term}, durable is ${shadow.vote} in term ${shadow.term}`,
        );
        return;
      case 'vote-request':
        if (message.preVote) return;
        this.count(record, message.term, message.from, message.from);
        must(shadow.term >= message.term, 8, () => `node ${message.from} campaigns in a term that is not durable`);
        return;
      case 'append-request':
      case 'heartbeat':
      case 'snapshot-request':
      case 'timeout-now':
        must(shadow.term >= message.term, 8, () => `node ${message.from} leads in a term that is not durable`);
        return;
      default:
    }
  };

  private count(record: GroupRecord, term: number, voter: NodeId, candidate: NodeId): void {
    const key = `${record.id}/${term}/${voter}`;
    const before = this.votes.get(key);
    must(
      before === undefined || before === candidate,
      8,
      () => `node ${voter} votes for ${before} and for ${candidate} in term ${term} of group ${record.id}`,
    );
    this.votes.set(key, candidate);
  }
}
