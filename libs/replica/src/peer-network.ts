import type { NodeId } from '#kernel';

/**
 * How frames reach the other nodes of the cluster. Frames may be lost, doubled or overtake each other, as Raft allows; they arrive whole or
 * not at all. In production `TcpPeerNetwork`, in tests `MemoryPeerNetwork`.
 */
export interface PeerNetwork {
  /**
   * Sends one frame, at once. The pieces are written one after the other; nobody changes them afterwards. False: dropped (no connection, too
   * much buffered). Never calls back into the sender.
   */
  post(peer: NodeId, payload: Uint8Array | readonly Uint8Array[]): boolean;
}
