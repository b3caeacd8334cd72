/**
 * The peer service, version 1: what nodes say to each other. All of it is posts: Raft brings its own answers and repeats what is lost.
 *
 *     0x0101 raftMessages   the messages of one turn to one peer, of all groups; payload as libs/replica encodes it
 */
export const peerServiceV1 = {
  raftMessages: { method: 0x0101 },
} as const;
