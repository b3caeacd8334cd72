export { StandaloneModule } from './standalone.module.js';
export { startStandalone } from './start-standalone.js';
