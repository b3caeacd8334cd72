export * from './memory-network.js';
export * from './virtual-time.js';
export type { ByteLink } from '../byte-link.js';
export { DeadlineWheel } from '../deadline-wheel.js';
export { FramedConnection } from '../framed-connection.js';
export { withDefaults } from '../net-limits.js';
