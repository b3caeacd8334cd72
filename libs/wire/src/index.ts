export * from './op-v1.js';
export * from './record-batch-v1.js';
export * from './session.js';
