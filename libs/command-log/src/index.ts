export * from './command-log.js';
export * from './log-node-directory.js';
export * from './log-node-server.js';
export * from './remote-log-node-directory.js';
export * from './remote-log-node.js';
export * from './routing-command-log.js';
