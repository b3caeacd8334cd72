export * from './fake-gateway.js';
export * from './fake-partition.js';
export * from './virtual-time.js';
