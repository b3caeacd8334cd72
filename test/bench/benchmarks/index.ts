import type { Benchmark } from '../bench.js';
import { appendBatches } from './append-batches.js';
import { latency } from './latency.js';
import { leaderKill } from './leader-kill.js';
import { putNative } from './put-native.js';
import { putRest } from './put-rest.js';

export const benchmarks: readonly Benchmark[] = [putRest, putNative, appendBatches, latency, leaderKill];
