export * from './memory-command-log.js';
export * from './memory-log-node.js';
export * from './memory-log.js';
export * from './virtual-time.js';
