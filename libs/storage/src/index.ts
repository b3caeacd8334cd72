export type * from './file-system.js';
export type * from './partition-log.js';
