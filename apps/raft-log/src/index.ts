export { LocalLogNode, type LocalLogNodeOptions } from './local-log-node.js';
export { LogProcess, type LogProcessOptions } from './log-process.js';
export { COMMAND_LOG, RaftLogModule } from './raft-log.module.js';
