import type { GroupId, NodeId } from '#kernel';
import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 9: what is acknowledged is durable when the answer leaves · 10: it is there after a crash, unless a leader has had it cut off. */
export class AcknowledgementsChecker implements Checker {
  constructor(private readonly termOf: (group: GroupId, node: NodeId) => number) {}

  sent: Checker['sent'] = (record, message) => {
    if (message.type !== 'append-response' && message.type !== 'snapshot-response') return;
    if (message.type === 'append-response' && !message.success) return;
    // Of a former term: true when it was made, as good as one that the network held back; meanwhile the log may have been cut.
    if (message.term < this.termOf(record.id, message.from)) return;
    const shadow = record.shadow(message.from);
    must(
      shadow.durable >= message.offset,
      9,
      () =>
        `node ${message.from} acknowledges offset ${message.offset} of group ${record.id}, durable is ${shadow.durable}`,
    );
    if (message.offset > shadow.acked) shadow.acked = message.offset;
  };

  recovered: Checker['recovered'] = (record, before, now) => {
    if (before.acked <= now.baseOffset) return;
    must(
      now.lastOffset >= before.acked,
      10,
      () =>
        `node ${now.node} has acknowledged offset ${before.acked} of group ${record.id} and comes back with ${now.lastOffset}`,
    );
    const chain = before.chainAt(before.acked);
    must(
      chain === null || chain === now.chainAt(before.acked),
      10,
      () => `node ${now.node} comes back to group ${record.id} with another log than it acknowledged`,
    );
  };
}
