import type { Rng } from '#kernel';
import type { ChaosCluster, ChaosNode } from './chaos-cluster.js';
import type { Statistics } from './statistics.js';

/** What a fault works with. */
export interface FaultContext {
  readonly cluster: ChaosCluster;
  readonly rng: Rng;
  readonly statistics: Statistics;
  /** Shorter faults. */
  readonly quick: boolean;
  /** Resolves after the time, or at once when the run is being stopped. */
  readonly sleep: (ms: number) => Promise<void>;
  /** One line about what is being done, for the log of the run. */
  readonly say: (text: string) => void;
  readonly problem: (text: string) => void;
}

/** Does something bad, waits, and makes it good again. Heals also when it throws. */
export interface Fault {
  readonly kind: string;
  /** No other fault runs beside it: its own expectations, or the last good copy, would be at risk. */
  readonly alone: boolean;
  readonly needsSmallDisk: boolean;
  /** false: it cannot be done now; another one is dealt. */
  readonly run: (context: FaultContext) => Promise<boolean>;
}

/** Takes a node out of the reach of other faults while `use` runs. */
export const withVictim = async (node: ChaosNode | null, use: (node: ChaosNode) => Promise<void>): Promise<boolean> => {
  if (node === null || node.taken || !node.process.running) return false;
  node.taken = true;
  try {
    await use(node);
  } finally {
    node.taken = false;
  }
  return true;
};
