import type { Benchmark } from '../bench.js';
import { appendBatches } from './append-batches.js';
import { archiveTurn } from './archive-turn.js';
import { archive } from './archive.js';
import { compression } from './compression.js';
import { getNative } from './get-native.js';
import { getRest } from './get-rest.js';
import { growth } from './growth.js';
import { idle } from './idle.js';
import { latency } from './latency.js';
import { leaderKill } from './leader-kill.js';
import { memory } from './memory.js';
import { nestTcp } from './nest-tcp.js';
import { putNative } from './put-native.js';
import { putRest } from './put-rest.js';
import { replay } from './replay.js';
import { scale } from './scale.js';
import { scan } from './scan.js';
import { shape } from './shape.js';
import { snapshot } from './snapshot.js';
import { tail } from './tail.js';
import { ttlChurn } from './ttl-churn.js';
import { viewMap } from './view-map.js';

export const benchmarks: readonly Benchmark[] = [
  putRest,
  getRest,
  putNative,
  getNative,
  latency,
  appendBatches,
  nestTcp,
  tail,
  replay,
  memory,
  viewMap,
  archive,
  archiveTurn,
  compression,
  snapshot,
  scan,
  ttlChurn,
  leaderKill,
  growth,
  shape,
  idle,
  scale,
];
