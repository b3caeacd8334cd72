import { NO_NODE, TidelineError, type GroupId, type NodeId, type Offset } from '#kernel';
import type { Configuration, Raft } from '#raft';
import { changeRefused, notLeader, overloaded } from './group-errors.js';
import type { ConfigurationAt } from './log-state.js';

/** A leadership transfer that took longer than this, in election timeouts, has failed. */
const TRANSFER_TIMEOUTS = 2;

export type ConfigurationTarget = Pick<Configuration, 'voters' | 'learners'>;
export type AdministrationCallback = (error: TidelineError | null) => void;

/** What operators ask of a group, and wait for: one leadership transfer and one change of members at a time. */
export class GroupAdministration {
  private transfer: { readonly to: NodeId; readonly deadline: number; readonly done: AdministrationCallback } | null =
    null;
  private change: { readonly target: ConfigurationTarget; readonly done: AdministrationCallback } | null = null;

  constructor(
    private readonly group: GroupId,
    private readonly nodeId: NodeId,
    private readonly core: Raft,
    private readonly electionTicks: number,
  ) {}

  get isTransferring(): boolean {
    return this.transfer !== null;
  }

  transferLeadership(
    request: { readonly to: NodeId; readonly voters: readonly NodeId[]; readonly now: number },
    done: AdministrationCallback,
  ): void {
    const { to, voters, now } = request;
    if (this.core.role !== 'leader') done(notLeader(this.group, this.core.leader));
    else if (to === this.nodeId) done(null);
    else if (!voters.includes(to)) done(new TidelineError('not-a-member', `node ${to} has no vote`));
    else if (this.transfer !== null) done(overloaded());
    else {
      this.transfer = { to, deadline: now + TRANSFER_TIMEOUTS * this.electionTicks, done };
      this.core.step({ type: 'transfer-leadership', to });
    }
  }

  proposeConfiguration(target: ConfigurationTarget, done: AdministrationCallback): void {
    const proposed = this.core.proposeConfiguration(target);
    if (proposed.ok) this.change = { target, done };
    else done(changeRefused(this.group, proposed));
  }

  tick(now: number): void {
    if (this.transfer !== null && now >= this.transfer.deadline) {
      this.endTransfer(new TidelineError('timeout', 'leadership was not taken over in time'));
    }
  }

  /** Answers what is decided by now. */
  settle(configuration: ConfigurationAt, commit: Offset): void {
    if (this.transfer !== null) this.settleTransfer(this.transfer.to);
    if (this.change !== null) this.settleChange(this.change.target, configuration, commit);
  }

  private settleTransfer(to: NodeId): void {
    const { leader } = this.core;
    if (leader === NO_NODE || leader === this.nodeId) return;
    this.endTransfer(leader === to ? null : new TidelineError('leadership-lost', `node ${leader} leads, not ${to}`));
  }

  private settleChange(target: ConfigurationTarget, { configuration, offset }: ConfigurationAt, commit: Offset): void {
    if (this.core.role !== 'leader') {
      this.endChange(new TidelineError('leadership-lost', 'the leader changed while the members were being changed'));
    } else if (
      offset <= commit &&
      configuration.outgoing.length === 0 &&
      sameMembers(configuration.voters, target.voters) &&
      sameMembers(configuration.learners, target.learners)
    ) {
      this.endChange(null);
    }
  }

  stop(error: TidelineError): void {
    this.endTransfer(error);
    this.endChange(error);
  }

  private endTransfer(error: TidelineError | null): void {
    const { transfer } = this;
    this.transfer = null;
    transfer?.done(error);
  }

  private endChange(error: TidelineError | null): void {
    const { change } = this;
    this.change = null;
    change?.done(error);
  }
}

const sameMembers = (a: readonly NodeId[], b: readonly NodeId[]): boolean =>
  a.length === b.length && a.every((id) => b.includes(id));
