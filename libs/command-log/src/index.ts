export type * from './command-log.js';
