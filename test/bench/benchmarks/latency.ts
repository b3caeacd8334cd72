import type { Benchmark, Contender } from '../bench.js';
import { ourPuts, peerPuts } from './put-native.js';

const ONE = '1 in flight';

/** The same puts, one at a time; the figure is the median latency. */
const asLatency = (contender: Contender): Contender => ({
  ...contender,
  run: async (seconds) => {
    const sample = await contender.run(seconds);
    return { ...sample, value: sample.p50Ms! };
  },
});

export const latency: Benchmark = {
  name: 'latency',
  unit: 'ms p50',
  higherIsBetter: false,
  summary: 'one put at a time: median time to an acknowledged, replicated and synced write',
  cases: [ONE],
  peers: ['etcd', 'nats', 'bare'],
  ours: async (settings) => asLatency(await ourPuts(settings, ONE)),
  peer: async (settings, _which, peer) => {
    const contender = await peerPuts(settings, ONE, peer);
    return contender && asLatency(contender);
  },
};
