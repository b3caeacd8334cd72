import { asOffset, type NodeId } from '#kernel';
import type { Checker, GroupRecord, Replica } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

const isMajority = (voters: readonly NodeId[], holds: (id: NodeId) => boolean): boolean =>
  voters.filter(holds).length * 2 > voters.length;

/**
 * 4: committed logs agree · 5: what is committed is durable on a quorum of the configuration in force · 6: entries of earlier terms are committed
 * by an entry of the leader's own · 11: nothing committed is cut off. Keeps the one committed log of each group.
 */
export class CommittedLogChecker implements Checker {
  constructor(private readonly tell: (record: GroupRecord, entry: ShadowEntry) => void) {}

  persistBegins: Checker['persistBegins'] = ({ record, shadow }, { truncateAfter }) => {
    if (truncateAfter === undefined || truncateAfter >= shadow.lastOffset) return;
    const cut = shadow.entries[shadow.indexOf(truncateAfter + 1)];
    must(
      cut.chain !== record.committedChainAt(cut.lastOffset),
      11,
      () => `node ${shadow.node} cuts group ${record.id} after ${truncateAfter}, committed up to ${record.commitMax}`,
    );
  };

  touched(replica: Replica): void {
    const { group, record, shadow, node } = replica;
    const commit = group.commitOffset;
    if (commit === shadow.highestCommit) return;
    must(commit > shadow.highestCommit, 7, () => `the commit offset of node ${node} goes back to ${commit}`);
    shadow.highestCommit = commit;
    if (commit > record.commitMax) this.extend(replica);
    // What is committed and written; a log that is about to be cut and written anew may know a later commit offset.
    const at = Math.min(group.readableOffset, shadow.lastOffset);
    if (at <= shadow.baseOffset) return;
    const chain = shadow.chainAt(at);
    must(
      chain !== null && chain === record.committedChainAt(at),
      4,
      () => `node ${node} has committed offset ${at} of group ${record.id} with another log than others have`,
    );
  }

  private extend({ node, group, record }: Replica): void {
    const commit = group.commitOffset;
    const { voters, outgoing } = group.configuration;
    let holder: ShadowLog | null = null;
    for (const candidate of record.shadows.values()) {
      const chain = candidate.chainAt(commit);
      if (chain === null) continue;
      const holds = (id: NodeId): boolean => {
        const shadow = record.shadows.get(id);
        return shadow !== undefined && shadow.durable >= commit && shadow.chainAt(commit) === chain;
      };
      if (!isMajority(voters, holds) || (outgoing.length > 0 && !isMajority(outgoing, holds))) continue;
      holder = candidate;
      break;
    }
    must(
      holder !== null,
      5,
      () =>
        `node ${node} takes offset ${commit} of group ${record.id} for committed, durable are ${[
          ...record.shadows.values(),
        ]
          .map((shadow) => `${shadow.node}:${shadow.durable}`)
          .join(' ')}, voters ${voters.join(' ')}${outgoing.length > 0 ? ` and ${outgoing.join(' ')}` : ''}`,
    );
    for (let i = holder.indexOf(record.commitMax + 1); i < holder.entries.length; i++) {
      const entry = holder.entries[i];
      if (entry.lastOffset > commit) break;
      const bytes = entry.bytes ?? record.bytesByChain.get(entry.chain);
      must(
        bytes !== undefined && entry.firstOffset === record.commitMax + 1,
        4,
        () => `committed entries of group ${record.id} do not follow one another at ${entry.firstOffset}`,
      );
      if (group.isLeader && entry.lastOffset === commit) {
        must(
          entry.term === group.term,
          6,
          () => `node ${node} commits offset ${commit} of term ${entry.term} by counting in term ${group.term}`,
        );
      }
      const committed = { ...entry, bytes };
      record.commit(committed, group.term);
      this.tell(record, committed);
    }
    must(record.commitMax === asOffset(commit), 4, () => `offset ${commit} of group ${record.id} is within a batch`);
  }
}
