export * from './tideline.module.js';
