export * from './memory-network.js';
export * from './virtual-time.js';
