import { NO_OFFSET, NO_TERM, asOffset, type NodeId, type Offset, type Term } from '#kernel';
import type { PartitionLog } from '#storage';
import { forEachBatch } from '#wire';
import type { DamageState } from './group-host.js';
import { LogRepair } from './log-repair.js';
import type { PeerMessage, RepairRequest, RepairResponse, RepairSnapshot } from './raft-messages-v1.js';
import type { SessionLimits } from './session-table.js';

/** The group, as far as damage is concerned. */
export interface RepairableGroup {
  readonly log: PartitionLog;
  readonly nodeId: NodeId;
  readonly sessions: SessionLimits;
  readonly responseBytesMax: number;
  readonly askEveryTicks: number;
  readable(): Offset;
  members(): readonly NodeId[];
  /** NO_TERM unless this node leads and has committed in its term. */
  leadingTerm(): Term;
  isStopped(): boolean;
  snapshot(): RepairSnapshot;
  adopt(snapshot: RepairSnapshot): void;
  /** Hands leadership to another voter than this one, if there is one. */
  yieldTo(exceptPeer: NodeId): void;
  send(message: PeerMessage): void;
  /** Told when the repair of its own log begins and ends. */
  damage(state: DamageState): void;
  fail(error: Error): void;
}

const NO_BYTES = Buffer.alloc(0);

/** The two sides of damage in a group that works: what it gives to peers whose logs are damaged, and the repair of its own. */
export class PeerRepair {
  private own: LogRepair | null = null;
  private helping = false;

  constructor(private readonly group: RepairableGroup) {}

  tick(): void {
    this.own?.tick();
  }

  stop(): void {
    this.own?.stop();
  }

  receive(message: RepairRequest | RepairResponse): void {
    if (message.type === 'repair-request') this.help(message);
    else this.own?.receive(message);
  }

  /** Committed batches for a peer whose log is damaged. One at a time; it asks again. */
  private help(request: RepairRequest): void {
    const { group } = this;
    const { term, fromOffset, toOffset } = request;
    // The peer can trust only a leader of a later term.
    if (toOffset === NO_OFFSET && group.leadingTerm() !== NO_TERM && group.leadingTerm() <= term) {
      group.yieldTo(request.from);
    }
    if (this.helping) return;
    const commit = group.readable();
    if (fromOffset <= group.log.baseOffset || fromOffset > commit) {
      this.answer(request, commit, NO_BYTES);
      return;
    }
    this.helping = true;
    const to = toOffset === NO_OFFSET ? commit : asOffset(Math.min(toOffset, commit));
    group.log.read({ from: fromOffset, to, bytesMax: group.responseBytesMax }, (error, batches) => {
      this.helping = false;
      this.answer(request, commit, error === null ? batches : NO_BYTES);
    });
  }

  private answer({ from, fromOffset }: RepairRequest, commit: Offset, run: Buffer): void {
    const { group } = this;
    if (group.isStopped()) return;
    const batches: Buffer[] = [];
    forEachBatch(run, (at, length) => batches.push(run.subarray(at, at + length)));
    group.send({
      type: 'repair-response',
      from: group.nodeId,
      to: from,
      term: group.leadingTerm(),
      fromOffset,
      commit,
      batches,
      snapshot: fromOffset <= group.log.baseOffset ? group.snapshot() : null,
    });
  }

  /** A read met damage. Below the commit offset it is repaired from the peers while the group goes on. */
  damageMet(): void {
    const { group } = this;
    const [range] = group.log.damaged;
    if (this.own !== null || range === undefined) return;
    if (range.toOffset === null || range.toOffset > group.readable()) return;
    const peers = group.members().filter((id) => id !== group.nodeId);
    if (peers.length === 0) return;
    group.damage('found');
    this.own = new LogRepair(group.log, {
      nodeId: group.nodeId,
      peers,
      askEveryTicks: group.askEveryTicks,
      adopt: (snapshot) => group.adopt(snapshot),
      sessions: group.sessions,
      send: (request) => group.send(request),
      done: () => {
        this.own = null;
        group.damage('repaired');
      },
      failed: (error) => group.fail(error),
    });
  }
}
