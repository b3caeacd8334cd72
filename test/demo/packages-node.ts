import { startStandalone } from '#apps/standalone';
import { DebianPackages } from './debian-view.js';

// What a user's own main file looks like: a node with a projection in it.
await startStandalone(process.argv.slice(2), { views: [DebianPackages] });
