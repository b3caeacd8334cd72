export * from './model-view.js';
export * from './batch-source.js';
export * from './typed-entry.js';
