export { MaterializerModule, type CommandLogSource, type MaterializerModuleOptions } from './materializer.module.js';
export { PartitionFeed, type FedView } from './partition-feed.js';
export { serveViewQuery } from './serve-view-query.js';
export { ViewHost } from './view-host.js';
