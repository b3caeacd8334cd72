import { NO_NODE, type NodeId } from '#kernel';
import type { Hello, Transport } from '#net';
import type { LogNode, NodeDescription } from './command-log.js';
import type { LogNodeDirectory } from './log-node-directory.js';
import { RemoteLogNode } from './remote-log-node.js';

/** Log nodes over the network, by their `log` address; the local one, if there is one, in process. */
export class RemoteLogNodeDirectory implements LogNodeDirectory {
  readonly local: LogNode | null;
  readonly seeds: readonly LogNode[];
  private readonly byAddress = new Map<string, RemoteLogNode>();

  constructor(
    private readonly options: {
      readonly transport: Transport;
      /** What this side says of itself; its service is set to `log`. */
      readonly hello: Omit<Hello, 'service'>;
      readonly local?: LogNode | null;
      /** host:port of log services to ask first. */
      readonly seeds?: readonly string[];
    },
  ) {
    this.local = options.local ?? null;
    this.seeds = (options.seeds ?? []).map((address) => this.at(address, NO_NODE));
  }

  node(description: NodeDescription): LogNode | null {
    if (this.local?.id === description.id) return this.local;
    const address = description.addresses['log'];
    return address === undefined ? null : this.at(address, description.id);
  }

  private at(address: string, id: NodeId): RemoteLogNode {
    const { transport, hello } = this.options;
    let node = this.byAddress.get(address);
    if (node === undefined) {
      node = new RemoteLogNode({ transport, address, id, hello: { ...hello, service: 'log' } });
      this.byAddress.set(address, node);
    }
    return node;
  }

  close(): Promise<void> {
    for (const node of this.byAddress.values()) node.close();
    return Promise.resolve();
  }
}
