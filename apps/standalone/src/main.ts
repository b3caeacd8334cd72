import { startStandalone } from './start-standalone.js';

await startStandalone(process.argv.slice(2));
