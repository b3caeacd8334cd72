export * from './append-port.js';
export * from './batching-producer.js';
export type { AppendCompletion } from './producer-lane.js';
