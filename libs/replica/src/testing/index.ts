export { MemoryPeerNetwork, type MemoryNetworkOptions } from './memory-peer-network.js';
export {
  ClusterMachine,
  Pending,
  ReplicaCluster,
  recordsBatch,
  textBatch,
  type ReplicaClusterOptions,
} from './replica-cluster.js';
export { VirtualTime } from './virtual-time.js';
export { decodePeerFrame, type PeerMessage } from '../raft-messages-v1.js';
