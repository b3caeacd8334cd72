export {
  COMMAND_LOG,
  GatewayModule,
  VIEW_QUERY,
  limitsOf,
  type GatewayModuleOptions,
  type PortSource,
} from './gateway.module.js';
export { DEFAULT_LIMITS, SYSTEM_TIME, type GatewayLimits, type GatewayTime } from './gateway-options.js';
export { GatewayServices, type GatewayParts } from './gateway-services.js';
export { openApiDocument } from './http/openapi.js';
export { NativeEndpoint } from './native/native-endpoint.js';
export { serveGateway } from './native/native-service.js';
export { NestTcpEndpoint } from './nest-tcp/nest-tcp-endpoint.js';
export { RemoteViewQuery, type RemoteViewQueryOptions } from './remote-view-query.js';
