export * from './model-view.js';
export * from './batch-source.js';
