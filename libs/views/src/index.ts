export type * from './view-query.js';
export type * from './view-upkeep.js';
export * from './data-type.js';
export { BUILT_IN_TYPES, validateCommand } from './types/built-in-types.js';
export { type LeavingEntry } from './archive-queue.js';
export { type ViewChange, type ViewChangeListener } from './change-listeners.js';
export { type DueRequest } from './departures.js';
export { type LeavingBatch } from './leaving-batch.js';
export * from './map-view.js';
export * from './map-view-restorer.js';
export { RESULTS_MAX } from './result-ring.js';
export {
  Apply,
  INDEX_VALUES_MAX,
  INDEX_VALUE_BYTES_MAX,
  ProjectionDefinition,
  STATE_BYTES_MAX,
  View,
  definitionOf,
  expiring,
  type Expiring,
  type IndexFunction,
  type IndexValue,
  type Next,
  type ViewOptions,
  type ViewType,
} from './projection/definition.js';
export { foldView, type FoldedEvent, type FoldedView } from './projection/fold-view.js';
export { type ParkedEvent } from './projection/parked-event.js';
export {
  PARKED_BYTES_MAX,
  PARKED_EVENTS_MAX,
  Projection,
  projectionMapOptions,
  unknownIndex,
  type Halt,
  type LookupRequest,
} from './projection/projection.js';
export { REPLAY_TYPE, encodeReplay, type ReplayCommand } from './projection/replay-command.js';
export { type ViewEvent } from './projection/view-event.js';
export { DIGEST_MARK_RECORDS, digestOfAll, type DigestMark, type SlotDigests } from './digest-marks.js';
export {
  SNAPSHOT_FOOTER_BYTES,
  decodeSnapshotFooter,
  decodeSnapshotTable,
  encodeSnapshotTable,
  type SlotPlace,
  type SnapshotTable,
} from './snapshot-v2.js';
export { SnapshotEntries } from './snapshot-reader.js';
export { SNAPSHOT_BLOCK_BYTES, SnapshotWriter } from './snapshot-writer.js';
