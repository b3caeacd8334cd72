export * from './model-view.js';
export * from './batch-source.js';
export * from './bytes-in-memory.js';
export * from './snapshot-bytes.js';
export * from './typed-entry.js';
export { readElements } from '../types/elements.js';
