export {
  CLUSTER_ID_PATTERN,
  DIRECTORY_VERSION,
  META_FILE,
  openDataDirectory,
  type DataDirectory,
  type OpenDataDirectory,
} from './data-directory.js';
export type * from './file-system.js';
export { LargeFileReader, LargeFileWriter } from './large-file.js';
export { LoopWrites } from './loop-writes.js';
export { nodeFileSystem } from './node-file-system.js';
export type * from './partition-log.js';
export { PARTITION_LOG_DEFAULTS, type PartitionLogOptions } from './partition-log-options.js';
export { openPartitionLog, type OpenPartitionLog } from './segmented-log.js';
export {
  verifyDataDirectory,
  type DirectoryProblem,
  type DirectoryReport,
  type GroupReport,
  type ProblemSeverity,
} from './verify.js';
export { unsyncedFileSystem } from './unsynced-file-system.js';
