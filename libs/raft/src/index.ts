export type * from './types.js';
export { RaftCore } from './raft-core.js';
export { MEMBERS_MAX, decodeConfiguration, encodeConfiguration } from './configuration.js';
export { PROMOTION_LAG_MAX } from './membership.js';
