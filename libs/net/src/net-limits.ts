import type { NetLimits } from './connection.js';

/** Defaults; a transport's `listen` and `connect` take others. */
export const NET_LIMITS: NetLimits = {
  /** The largest batch (16 MiB and its framing) with room for what a message puts before it. */
  frameBytesMax: 20 * 1024 * 1024,
  inflightRequestsMax: 65_536,
  streamsMax: 4096,
  bufferedBytesMax: 64 * 1024 * 1024,
  connectionsMax: 4096,
  helloTimeoutMs: 5000,
  idlePingMs: 5000,
};

export const withDefaults = (limits: Partial<NetLimits> | undefined): NetLimits => ({ ...NET_LIMITS, ...limits });

/** TCP connect and hello together, unless `connect` is told otherwise. */
export const CONNECT_TIMEOUT_MS = 5000;
/** How long a side that closes waits for the other to read the reason. */
export const CLOSE_GRACE_MS = 1000;
/**
 * Stream items are held back while this much waits for the kernel: enough to keep a socket busy, little enough for a slow reader to
 * cost nothing. Half of `bufferedBytesMax` if that is less.
 */
export const STREAM_BUFFERED_BYTES_MAX = 4 * 1024 * 1024;
/** Above this an answer counts as large: it is replaced by an `overloaded` error when the send buffer is full. */
export const SMALL_ANSWER_BYTES_MAX = 4096;
