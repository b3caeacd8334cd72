export { StandaloneModule, type StandaloneParts } from './standalone.module.js';
export { startStandalone } from './start-standalone.js';
