export { TidelineError, isTidelineError, type ErrorCode, type Outcome } from '#kernel';
export type {
  ClusterDescriptionMessage as ClusterDescription,
  NodeDescriptionMessage as NodeDescription,
  PartitionDescriptionMessage as PartitionDescription,
  TopicDescriptionMessage as TopicDescription,
} from '#wire';
export { ViewExportReader, type ExportHead, type ExportedEntry } from '#wire';
export * from './append-port.js';
export * from './batching-producer.js';
export * from './client-options.js';
export type * from './client-requests.js';
export type { AppendCompletion } from './producer-lane.js';
export * from './record-tail.js';
export { restoredRecord } from './restored-record.js';
export * from './tideline-client.js';
export * from './values.js';
export type { ViewWatchEvent, WatchOptions } from './view-watch.js';
