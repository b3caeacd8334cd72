export { parseByteSize, formatByteSize, BYTE_SIZE_SYNTAX } from './byte-size.js';
export { parseDurationMs, formatDurationMs, DURATION_MS_MAX, DURATION_SYNTAX } from './duration.js';
export * from './health.js';
export { DirectAnswers, type DirectAnswer, type DirectHead, type DirectReply } from './http/direct-answers.js';
export { createHttpEdge, type HttpEdge, type HttpEdgeSettings, type HttpLimits } from './http/http-adapter.js';
export type { HttpFrontTime } from './http/http-front.js';
export * from './http/problem-details.js';
export { ProblemFilter } from './http/problem-filter.js';
export { TidelineLogger, type LoggerOptions, type LogSink } from './logger.js';
export * from './metrics.js';
export {
  formatAddress,
  isLoopback,
  parseAddress,
  parsePeer,
  type Address,
  type PeerAddress,
} from './options/address.js';
export { TOPIC_PARTITIONS_MAX, type TopicOption } from './options/option-kind.js';
export {
  APPS,
  OPTION_NAMES,
  OPTION_TABLE,
  type AppName,
  type OptionName,
  type OptionSpec,
} from './options/option-table.js';
export { optionsHelp, optionsMarkdown } from './options/options-help.js';
export {
  envOf,
  flagOf,
  loadOptions,
  wantsHelp,
  yamlKeyOf,
  type OptionProblem,
  type OptionSources,
  type TidelineOptions,
} from './options/options.js';
export { OPTIONS, PlatformModule, type PlatformParts } from './platform-module.js';
export { ProbeController } from './probe.controller.js';
export * from './process-end.js';
export { toRpcException, toRpcPayload, type RpcPayload } from './rpc-payload.js';
export { parseJson, UNSAFE_NAMES, type JsonLimits } from './safe-json.js';
export { runServer, type ServerApp } from './run-server.js';
