export { patternCallsV1 } from './pattern-message.js';
export * from './rpc-context.js';
export * from './rpc-error.js';
export * from './rpc-exception-filter.js';
export * from './tideline-client-proxy.js';
export * from './tideline-json-client.js';
export * from './tideline-json-tcp-server.js';
export { TidelineServer, type TidelineServerOptions } from './tideline-server.js';
