import type { GroupId, NodeId } from '#kernel';
import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 9: what is acknowledged is durable when the answer leaves. */
export class DurableAcknowledgementsChecker implements Checker {
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
}
