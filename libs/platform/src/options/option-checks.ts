import { formatAddress, isLoopback, isWildcard } from './address.js';
import type { AppName, OptionName } from './option-table.js';
import { OPTION_TABLE } from './option-table.js';
import type { TidelineOptions } from './options.js';

interface Conflict {
  readonly option: OptionName;
  readonly message: string;
}

/** A segment holds a batch, which is at most a request and this much framing. */
const SEGMENT_SPARE_BYTES = 128 * 1024;

const PORTS = {
  'http-port': 'httpPort',
  'native-port': 'nativePort',
  'nest-port': 'nestPort',
  'resp-port': 'respPort',
  'grpc-port': 'grpcPort',
  'log-port': 'logPort',
  'peer-port': 'peerPort',
  'view-port': 'viewPort',
} as const satisfies Partial<Record<OptionName, keyof TidelineOptions>>;

/** What is wrong with values that are each allowed, but not together. */
export function checkTogether(options: TidelineOptions): Conflict[] {
  const conflicts: Conflict[] = [];
  const refuse = (option: OptionName, message: string): void => {
    conflicts.push({ option, message });
  };

  if (!isLoopback(options.bind) && !options.insecure) {
    refuse(
      'bind',
      `${options.bind} can be reached from other machines and nothing asks for credentials; ` +
        'bind to 127.0.0.1, or pass --insecure if the network itself is trusted',
    );
  }
  if (isWildcard(options.advertiseHost)) {
    refuse('advertise-host', 'must be an address others can connect to');
  }
  if (options.peers.length > 0 && !options.peers.some((peer) => peer.nodeId === options.nodeId)) {
    const ids = options.peers.map((peer) => `${peer.nodeId}@${formatAddress(peer)}`).join(', ');
    refuse('peers', `must contain this node: node-id is ${options.nodeId}, peers are ${ids}`);
  }
  if (options.heartbeatMs * 3 >= options.electionTimeoutMs) {
    refuse(
      'heartbeat-ms',
      `must be less than a third of election-timeout-ms: ${options.heartbeatMs} is not, of ${options.electionTimeoutMs}`,
    );
  }
  checkPorts(options, refuse);
  checkSizes(options, refuse);
  if (needsLog(options.app) && options.logNodes.length === 0) {
    refuse('log-nodes', `a ${options.app} needs the log services it works with, e.g. --log-nodes 127.0.0.1:7410`);
  }
  return conflicts;
}

const needsLog = (app: AppName): boolean => app === 'materializer' || app === 'gateway';

function checkPorts(options: TidelineOptions, refuse: (option: OptionName, message: string) => void): void {
  const taken = new Map<number, string>();
  for (const [name, key] of Object.entries(PORTS) as Array<[keyof typeof PORTS, (typeof PORTS)[keyof typeof PORTS]]>) {
    const port = options[key];
    if (port === 0 || !OPTION_TABLE[name].apps.includes(options.app)) continue;
    const other = taken.get(port);
    if (other === undefined) taken.set(port, name);
    else refuse(name, `${port} is the ${other} as well`);
  }
}

function checkSizes(options: TidelineOptions, refuse: (option: OptionName, message: string) => void): void {
  if (options.recordBytesMax > options.requestBytesMax) {
    refuse('record-bytes-max', `${options.recordBytesMax} is more than request-bytes-max (${options.requestBytesMax})`);
  }
  if (options.keyBytesMax > options.recordBytesMax) {
    refuse('key-bytes-max', `${options.keyBytesMax} is more than record-bytes-max (${options.recordBytesMax})`);
  }
  if (options.headerBytesMax > options.recordBytesMax) {
    refuse('header-bytes-max', `${options.headerBytesMax} is more than record-bytes-max (${options.recordBytesMax})`);
  }
  if (options.segmentBytes < options.requestBytesMax + SEGMENT_SPARE_BYTES) {
    refuse(
      'segment-bytes',
      `${options.segmentBytes} does not hold the largest request (${options.requestBytesMax} + ${SEGMENT_SPARE_BYTES})`,
    );
  }
}
