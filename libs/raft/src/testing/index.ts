export { RaftCluster, type ClusterOptions } from './raft-cluster.js';
export { CORE_OPTIONS, ClusterNode, bytesText, textBytes, type CoreOptions, type NodeHost } from './cluster-node.js';
export { ClusterInvariants } from './cluster-invariants.js';
export { DiskImage, EMPTY_CONFIGURATION } from './disk-image.js';
export { Chaos } from './chaos.js';
