import type { Checker, Replica } from '../observer.js';
import type { ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/**
 * 5: what is committed is durable on a quorum of the configuration in force. Durable is what the log reported; whether that was true is seen at the
 * next crash (10).
 */
export class DurableQuorumChecker implements Checker {
  committing({ node, group, record }: Replica, log: ShadowLog | null): void {
    const { voters, outgoing } = group.configuration;
    must(
      log !== null,
      5,
      () =>
        `node ${node} takes offset ${group.commitOffset} of group ${record.id} for committed, durable are ${[
          ...record.shadows.values(),
        ]
          .map((shadow) => `${shadow.node}:${shadow.durable}`)
          .join(' ')}, voters ${voters.join(' ')}${outgoing.length > 0 ? ` and ${outgoing.join(' ')}` : ''}`,
    );
  }
}
