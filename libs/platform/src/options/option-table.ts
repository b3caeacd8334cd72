/**
 * The one table of options. The parser, `--help`, docs/operations.md and the type TidelineOptions follow from it.
 *
 * To add an option, add a row. `use` names the kind of value and what it is when nobody says: a value, or a
 * function of the options that came before (`derived`), with the words that describe it.
 */
import { join } from 'node:path';
import {
  asNodeId,
  HEADER_BYTES_MAX,
  JSON_DEPTH_MAX,
  KEY_BYTES_MAX,
  RECORD_BYTES_MAX,
  REQUEST_BYTES_MAX,
  TRANSACTION_COMMANDS_MAX,
  VIEW_DEFAULTS,
  type NodeId,
} from '#kernel';
import { isWildcard, type Address, type PeerAddress } from './address.js';
import * as kind from './option-kind.js';
import type { OptionKind } from './option-kind.js';

export const APPS = ['standalone', 'raft-log', 'materializer', 'gateway'] as const;
export type AppName = (typeof APPS)[number];

/** The options other defaults follow from, and where the process runs. */
export interface Basis {
  readonly 'data-dir': string;
  readonly bind: string;
  readonly 'base-port': number;
  readonly 'node-id': NodeId;
  readonly peers: readonly PeerAddress[];
  readonly seeds: readonly Address[];
  readonly hostname: string;
  readonly cwd: string;
}

export interface OptionSpec<T> {
  readonly kind: OptionKind<T>;
  readonly group: string;
  readonly text: string;
  readonly apps: readonly AppName[];
  /** What the option is when nobody says. */
  readonly fallback: T | ((basis: Basis) => T);
  /** The fallback in words where it is a function. */
  readonly fallbackText?: string;
  /** May carry a password: never printed. */
  readonly secret?: boolean;
}

const ALL = APPS;
const LOG: readonly AppName[] = ['standalone', 'raft-log'];
const VIEW: readonly AppName[] = ['standalone', 'materializer'];
const EDGE: readonly AppName[] = ['standalone', 'gateway'];
const ABOVE_LOG: readonly AppName[] = ['materializer', 'gateway'];

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

const group = (title: string) =>
  function option<T>(
    apps: readonly AppName[],
    optionKind: OptionKind<T>,
    fallback: T | ((basis: Basis) => T),
    text: string,
    more: { readonly fallbackText?: string; readonly secret?: boolean } = {},
  ): OptionSpec<T> {
    return { kind: optionKind, group: title, text, apps, fallback, ...more };
  };

const basic = group('Basics');
const net = group('Addresses');
const cluster = group('Cluster');
const log = group('Log');
const view = group('Views');
const limit = group('Limits');

const portAt = (apps: readonly AppName[], distance: number, text: string): OptionSpec<number> =>
  net(apps, kind.port, (basis) => (basis['base-port'] === 0 ? 0 : basis['base-port'] + distance), text, {
    fallbackText: distance === 0 ? 'base-port' : `base-port + ${distance}`,
  });

/** Furthest distance of a port from `base-port`. */
const PORT_DISTANCE_MAX = 20;

const advertised = (basis: Basis): string => {
  const own = basis.peers.find((peer) => peer.nodeId === basis['node-id']);
  if (own) return own.host;
  return isWildcard(basis.bind) ? basis.hostname : basis.bind;
};

export const OPTION_TABLE = {
  'data-dir': basic(ALL, kind.path, (basis) => join(basis.cwd, 'data'), 'folder of everything this node keeps', {
    fallbackText: './data',
  }),
  'log-level': basic(
    ALL,
    kind.choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'least severe log line that is written',
  ),
  'log-format': basic(
    ALL,
    kind.choice('auto', 'json', 'pretty'),
    'auto',
    'JSON lines, or lines for people; auto: for people on a terminal',
  ),
  'shutdown-timeout-ms': basic(
    ALL,
    kind.durationMs({ min: 100, max: 10 * MINUTE_MS }),
    5000,
    'how long a stop may take before the process ends anyway',
  ),

  bind: net(ALL, kind.host, '127.0.0.1', 'address to listen on; other than loopback needs --insecure'),
  insecure: net(ALL, kind.flag, false, 'listen beyond this machine although nothing asks for credentials'),
  'base-port': net(
    ALL,
    { ...kind.integer({ min: 0, max: 65_535 - PORT_DISTANCE_MAX }), placeholder: 'PORT' },
    7400,
    'moves all ports below; 0: any free ports',
  ),
  'http-port': portAt(ALL, 0, 'REST, event streams, health and metrics'),
  'native-port': portAt(EDGE, 1, 'native framed protocol'),
  'nest-port': portAt(EDGE, 2, 'Nest microservice TCP (JSON)'),
  'resp-port': portAt(EDGE, 3, 'kept for the Redis protocol; not served yet'),
  'grpc-port': portAt(EDGE, 4, 'kept for gRPC; not served yet'),
  'log-port': portAt(LOG, 10, 'log service, for gateways and materializers'),
  'peer-port': portAt(LOG, 11, 'Raft, for the other log nodes'),
  'view-port': portAt(VIEW, 20, 'view service, for gateways'),

  'cluster-name': cluster(ALL, kind.name, 'tideline', 'nodes of another cluster name are refused'),
  'node-id': cluster(ALL, kind.nodeId, asNodeId(1), 'identity of this node, never given to another disk'),
  peers: cluster(
    LOG,
    kind.peers,
    [],
    'all log nodes with their peer ports, this one included; none: a cluster of one',
    {
      fallbackText: 'none',
    },
  ),
  'advertise-host': cluster(ALL, kind.host, advertised, 'host under which others reach this node', {
    fallbackText: 'own host in peers, else bind, else the host name',
  }),
  seeds: cluster(ALL, kind.addresses, [], 'log services of some members, to find the rest', { fallbackText: 'none' }),
  'log-nodes': cluster(ABOVE_LOG, kind.addresses, (basis) => basis.seeds, 'log services of the raft-log nodes', {
    fallbackText: 'seeds',
  }),
  materializers: cluster(['materializer', 'gateway'], kind.addresses, [], 'view services of the materializers', {
    fallbackText: 'none',
  }),
  region: cluster(ALL, kind.name, 'local', 'where this node runs, for placement and metrics'),
  topics: cluster(
    LOG,
    kind.topics,
    [{ name: 'default', partitions: 1, view: VIEW_DEFAULTS }],
    'topics created at the first start; `default` is added if missing',
  ),

  durability: log(
    LOG,
    kind.choice('sync', 'os'),
    'sync',
    'sync: on disk before it counts; os: left to the operating system, lost on power failure',
  ),
  'election-timeout-ms': log(
    LOG,
    kind.durationMs({ min: 100, max: MINUTE_MS }),
    1000,
    'silence of a leader after which another is elected',
  ),
  'heartbeat-ms': log(
    LOG,
    kind.durationMs({ min: 10, max: 20_000 }),
    100,
    'between heartbeats of a leader; less than a third of election-timeout-ms',
  ),
  'read-mode': log(
    LOG,
    kind.choice('barrier', 'lease'),
    'barrier',
    'linearizable reads: barrier: a leader asks a quorum, whatever clocks do; lease: it does not ask while a quorum has promised to elect nobody ' +
      'else, which assumes that no clock of the nodes runs 10 % faster than another or stands still; the same on every node',
  ),
  'segment-bytes': log(
    LOG,
    kind.byteSize({ min: 1024 * 1024, max: 1024 ** 3, multipleOf: 4096 }),
    64 * 1024 * 1024,
    'size of a log file; preallocated',
  ),
  'sessions-max': log(
    LOG,
    kind.integer({ min: 16, max: 1_000_000 }),
    10_000,
    'sessions and idempotency keys a partition remembers; the same on every node',
  ),
  'session-timeout-ms': log(
    LOG,
    kind.durationMs({ min: MINUTE_MS, max: 30 * DAY_MS }),
    60 * MINUTE_MS,
    'log time after which an unused session is forgotten; the same on every node',
  ),

  'catalog-url': view(
    VIEW,
    kind.catalogUrl,
    (basis) => `sqlite:${join(basis['data-dir'], 'catalog.sqlite')}`,
    'database of snapshots and archive',
    { fallbackText: 'sqlite:DATA-DIR/catalog.sqlite', secret: true },
  ),
  'snapshot-interval-ms': view(
    VIEW,
    kind.durationMs({ min: 1000, max: 7 * DAY_MS }),
    5 * MINUTE_MS,
    'between snapshots of a partition that changed',
  ),
  'snapshot-log-bytes': view(
    VIEW,
    kind.byteSize({ min: 64 * 1024, max: 1024 ** 4 }),
    256 * 1024 * 1024,
    'log applied to a partition, or twice what it took when it was written last if that is more, for which it is written, whatever the interval',
  ),
  'snapshots-kept': view(VIEW, kind.integer({ min: 1, max: 100 }), 2, 'snapshots of a partition that are kept'),
  'digest-interval-ms': view(
    VIEW,
    kind.durationMs({ min: 100, max: DAY_MS }),
    5_000,
    'between comparisons of views with those of other hosts',
  ),

  'record-bytes-max': limit(
    ALL,
    kind.byteSize({ min: 1024, max: REQUEST_BYTES_MAX }),
    RECORD_BYTES_MAX,
    'largest record: key, value and headers',
  ),
  'request-bytes-max': limit(
    ALL,
    kind.byteSize({ min: 1024, max: REQUEST_BYTES_MAX }),
    REQUEST_BYTES_MAX,
    'largest request; a log refuses larger batches in any case',
  ),
  'key-bytes-max': limit(ALL, kind.byteSize({ min: 16, max: 64 * 1024 }), KEY_BYTES_MAX, 'longest key'),
  'header-bytes-max': limit(
    ALL,
    kind.byteSize({ min: 0, max: 256 * 1024 }),
    HEADER_BYTES_MAX,
    'headers of a record together',
  ),
  'json-depth-max': limit(EDGE, kind.integer({ min: 1, max: 256 }), JSON_DEPTH_MAX, 'nesting of a JSON document'),
  'transaction-commands-max': limit(
    EDGE,
    kind.integer({ min: 1, max: 4096 }),
    TRANSACTION_COMMANDS_MAX,
    'conditions and commands of a transaction',
  ),
  'connections-max': limit(ALL, kind.integer({ min: 1, max: 65_535 }), 4096, 'open connections a listener takes'),
  'tail-subscribers-max': limit(ALL, kind.integer({ min: 1, max: 100_000 }), 4096, 'live tails and watches of a node'),
  'request-timeout-ms': limit(
    EDGE,
    kind.durationMs({ min: 100, max: 10 * MINUTE_MS }),
    10_000,
    'how long a request may wait for its answer',
  ),
} as const satisfies Record<string, OptionSpec<unknown>>;

export type OptionName = keyof typeof OPTION_TABLE;

export const OPTION_NAMES = Object.keys(OPTION_TABLE) as readonly OptionName[];
