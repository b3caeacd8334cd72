export { MaterializerModule, type CommandLogSource, type MaterializerModuleOptions } from './materializer.module.js';
export { PartitionFeed, type FedView } from './partition-feed.js';
export { serveViewQuery } from './serve-view-query.js';
export {
  InjectView,
  ViewHandle,
  viewHandleToken,
  type PageOptions,
  type ReadOptions,
  type StatePage,
  type ViewStateChange,
  type ViewStateEntry,
} from './view-handle.js';
export { ViewHost } from './view-host.js';
