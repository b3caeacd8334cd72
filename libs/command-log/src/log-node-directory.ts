import type { LogNode, NodeDescription } from './command-log.js';

/** Where RoutingCommandLog finds the log nodes. */
export interface LogNodeDirectory {
  /** The log node of this process; null in a process without one. */
  readonly local: LogNode | null;
  /** Whom to ask before the first description is known, the local node aside. */
  readonly seeds: readonly LogNode[];
  /** The node as described; null when it cannot be reached (it has not told its address). The same object for the same address. */
  node(description: NodeDescription): LogNode | null;
  close(): Promise<void>;
}

/** Nodes that are known beforehand: one process, or tests. */
export class FixedLogNodeDirectory implements LogNodeDirectory {
  readonly local: LogNode | null;
  readonly seeds: readonly LogNode[];

  constructor(options: { readonly local: LogNode | null; readonly others?: readonly LogNode[] }) {
    this.local = options.local;
    this.seeds = options.others ?? [];
  }

  node(description: NodeDescription): LogNode | null {
    if (this.local?.id === description.id) return this.local;
    return this.seeds.find((node) => node.id === description.id) ?? null;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
