/**
 * Runs a simulated fleet and says what it sent and what it holds; a process of its own, so that the memory is the fleet's.
 *
 *   node --expose-gc scale-probe.js NODES PARTITIONS SECONDS BATCHES_PER_SECOND
 */
import { SimulatedFleet, REPLICATION, type Traffic } from './simulated-fleet.js';

const [nodes, partitions, seconds, batchesPerSecond] = process.argv.slice(2).map(Number);

const collect = (): NodeJS.MemoryUsage => {
  for (let i = 0; i < 4; i++) (globalThis as { gc?: () => void }).gc?.();
  return process.memoryUsage();
};

const small = new SimulatedFleet(3, 1);
small.elect();
small.run(0.2, 10);
const before = collect();
const fleet = new SimulatedFleet(nodes, partitions);
fleet.elect();
fleet.run(0.5);
const after = collect();

const flat = ({ byType, ...traffic }: Traffic): object => ({ ...traffic, byType: Object.fromEntries(byType) });

process.send!({
  heapPerReplica: (after.heapUsed - before.heapUsed) / (partitions * REPLICATION),
  peersPerNode: fleet.peersPerNode,
  leadersMax: fleet.leadersMax,
  idle: flat(fleet.run(seconds)),
  loaded: flat(fleet.run(seconds, batchesPerSecond)),
});
