export * from './assert.js';
export * from './brand.js';
export * from './bytes.js';
export * from './clock.js';
export * from './errors.js';
export * from './key-hash.js';
export * from './limits.js';
export * from './rng.js';
