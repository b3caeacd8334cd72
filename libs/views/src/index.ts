export type * from './view-query.js';
export * from './data-type.js';
export { BUILT_IN_TYPES, validateCommand } from './types/built-in-types.js';
export * from './map-view.js';
export { RESULTS_MAX } from './result-ring.js';
export { SNAPSHOT_BLOCK_BYTES, SnapshotWriter } from './snapshot-v1.js';
