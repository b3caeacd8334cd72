import { randomChance, type NodeId, type Rng, type Scheduler } from '#kernel';
import type { PeerNetwork } from '../peer-network.js';

export interface MemoryNetworkOptions {
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  readonly delayMsMin?: number;
  readonly delayMsMax?: number;
}

type Receiver = (from: NodeId, payload: Buffer) => void;

/** All nodes' PeerNetworks in one process, with faults on demand. */
export class MemoryPeerNetwork {
  private readonly receivers = new Map<NodeId, Receiver>();
  private readonly cut = new Set<string>();
  lossRate = 0;
  duplicationRate = 0;
  delayMsMin: number;
  delayMsMax: number;
  framesPosted = 0;
  /** Sees every frame as it is posted; false drops it. */
  filter: ((from: NodeId, to: NodeId, frame: Buffer) => boolean) | null = null;

  constructor(private readonly options: MemoryNetworkOptions) {
    this.delayMsMin = options.delayMsMin ?? 0.2;
    this.delayMsMax = options.delayMsMax ?? 0.4;
  }

  /** The network as one node sees it. */
  attach(node: NodeId, receive: Receiver): PeerNetwork {
    this.receivers.set(node, receive);
    return { post: (peer, payload) => this.post(node, peer, payload) };
  }

  detach(node: NodeId): void {
    this.receivers.delete(node);
  }

  /** Drops what goes from one to the other from now on. */
  block(from: NodeId, to: NodeId): void {
    this.cut.add(`${from}>${to}`);
  }

  /** Both ways, with everybody else in the list. */
  isolate(node: NodeId, others: readonly NodeId[]): void {
    for (const other of others) {
      if (other === node) continue;
      this.block(node, other);
      this.block(other, node);
    }
  }

  heal(): void {
    this.cut.clear();
  }

  private post(from: NodeId, to: NodeId, payload: Uint8Array | readonly Uint8Array[]): boolean {
    if (!this.receivers.has(to)) return false;
    // A copy, as over a wire: nobody shares memory.
    const frame = payload instanceof Uint8Array ? Buffer.from(payload) : Buffer.concat(payload);
    this.framesPosted++;
    if (this.filter !== null && !this.filter(from, to, frame)) return true;
    if (this.cut.has(`${from}>${to}`)) return true;
    const { rng } = this.options;
    if (randomChance(rng, this.lossRate)) return true;
    this.deliver(from, to, frame);
    if (randomChance(rng, this.duplicationRate)) this.deliver(from, to, Buffer.from(frame));
    return true;
  }

  private deliver(from: NodeId, to: NodeId, frame: Buffer): void {
    const { rng, scheduler } = this.options;
    const delayMs = this.delayMsMin + (rng.nextU32() / 2 ** 32) * (this.delayMsMax - this.delayMsMin);
    scheduler.after(delayMs, () => {
      // What is under way when a cut begins is lost with it.
      if (!this.cut.has(`${from}>${to}`)) this.receivers.get(to)?.(from, frame);
    });
  }
}
