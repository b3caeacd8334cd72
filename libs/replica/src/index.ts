export type { AppendCallback, Appended } from './append-waiters.js';
export type { GroupCounters } from './group-counters.js';
export { SCRUB_PACE, type ScrubPace } from './log-scrub.js';
export { LOG_TIME_LEAD_MS } from './log-time.js';
export type { PeerNetwork } from './peer-network.js';
export type { BarrierCallback, BarrierPoint } from './read-barriers.js';
export { Group } from './replica-group.js';
export type { Acks, DamageState, GroupStatus, ReadResult } from './group-host.js';
export { REPLICA_LIMITS, type ReplicaLimits, type ReplicaMutants } from './replica-limits.js';
export {
  ELECTION_TIMEOUT_MS,
  HEARTBEAT_MS,
  ReplicaNode,
  TICK_MS,
  groupDirectoryName,
  parseGroupDirectoryName,
  type NodeCounters,
  type OpenGroup,
  type ReplicaNodeOptions,
} from './replica-node.js';
export { SESSION_BATCHES_KEPT, SESSION_LIMITS, type SessionLimits } from './session-table.js';
export { TcpPeerNetwork, type PeerAddress, type PeerReceiver, type TcpPeerNetworkOptions } from './tcp-peer-network.js';
export { MetaController, type MetaControllerOptions, type TopicCallback, type TopicSpec } from './meta-controller.js';
export { MetaDirectory, TOPIC_KEY_PREFIX, parseTopicEntry, type TopicEntry } from './meta-directory.js';
