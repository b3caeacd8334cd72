export * from './address.js';
export type * from './connection.js';
export { NET_LIMITS } from './net-limits.js';
export * from './reconnecting-peer.js';
export { tcpTransport } from './tcp-transport.js';
