import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Several Tideline processes on this machine forming one cluster: what `npm run cluster`, the demo, the benchmarks and the
 * tests with real processes start. Node k listens on base + 100·(k−1), every port as in docs/operations.md.
 */
export interface ClusterLauncherOptions {
  readonly nodes: number;
  /** Node k keeps its data in DIR/node-k. */
  readonly dataDir: string;
  readonly basePort: number;
  /** The production shape: `nodes` raft-log processes, two materializers, one gateway. */
  readonly split: boolean;
  /** Further options for every process, by name without dashes. */
  readonly options?: Readonly<Record<string, string>>;
  /** Where each process writes; 'inherit' for this terminal. Default: DIR/NAME.log. */
  readonly output?: 'file' | 'inherit' | 'ignore';
  /** Called when a process ends that was not asked to. */
  readonly onUnexpectedExit?: (node: LaunchedProcess, why: string) => void;
}

/** libuv's pool carries the synced writes; see apps/cli/bin/tideline.cjs. */
const THREADPOOL_SIZE = String(Math.max(8, 2 * availableParallelism()));
/**
 * What every server process runs with; package.json, Dockerfile and bin/tideline.cjs say the same.
 *
 * Batches live a few milliseconds: long enough to outlive V8's default young generation of 16 MiB under load. With a larger one they die in it,
 * which gave 10 to 20 % more records a second when ingesting batches.
 *
 * V8 begins a full collection as soon as the old generation could not take in a whole young one. With 45 MB alive, its limit at 87 and a young
 * generation of 64 that is always so: three collections a second, half of a node's CPU time. So the limit starts above both.
 */
export const SERVER_NODE_FLAGS = ['--enable-source-maps', '--max-semi-space-size=64', '--initial-old-space-size=256'];
const READY_POLL_MS = 50;
const STOP_KILL_AFTER_MS = 10_000;
const LOG_LINES_SHOWN = 10;

/** The compiled apps, whether this file runs compiled or, in tests, as it is. */
const dist = ((): string => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return join(folder, 'dist');
})();

export class LaunchedProcess {
  child: ChildProcess | null = null;
  private stopping = false;

  constructor(
    readonly name: string,
    readonly app: 'standalone' | 'raft-log' | 'materializer' | 'gateway',
    /** Base port: HTTP; the others are offsets from it. */
    readonly basePort: number,
    readonly args: readonly string[],
    private readonly options: ClusterLauncherOptions,
  ) {}

  get httpAddress(): string {
    return `127.0.0.1:${this.basePort}`;
  }

  get nativeAddress(): string {
    return `127.0.0.1:${this.basePort + 1}`;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  get running(): boolean {
    return this.child !== null && this.child.exitCode === null && this.child.signalCode === null;
  }

  start(): void {
    const { output = 'file', dataDir } = this.options;
    const sink = output === 'file' ? openSync(join(dataDir, `${this.name}.log`), 'a') : output;
    this.stopping = false;
    const child = spawn(
      process.execPath,
      [...SERVER_NODE_FLAGS, join(dist, 'apps', this.app, 'src', 'main.js'), ...this.args],
      {
        stdio: ['ignore', sink, sink],
        env: { ...process.env, UV_THREADPOOL_SIZE: process.env['UV_THREADPOOL_SIZE'] ?? THREADPOOL_SIZE },
        // A terminal's Ctrl-C goes to the whole foreground group; this launcher stops its processes itself, once.
        detached: true,
      },
    );
    // The child has its own.
    if (typeof sink === 'number') closeSync(sink);
    this.child = child;
    child.once('exit', (code, signal) => {
      if (!this.stopping) this.options.onUnexpectedExit?.(this, signal ? `signal ${signal}` : `exit code ${code}`);
    });
  }

  /** Sends a signal. A process killed on purpose is not reported as unexpected. */
  kill(signal: NodeJS.Signals): void {
    if (signal === 'SIGKILL' || signal === 'SIGTERM' || signal === 'SIGINT') this.stopping = true;
    if (this.running) this.child!.kill(signal);
  }

  /** Resolves when the process has ended; kills it when it has not within ten seconds. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.child;
    if (!child || !this.running) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.kill(signal);
    const killer = setTimeout(() => child.kill('SIGKILL'), STOP_KILL_AFTER_MS);
    await ended;
    clearTimeout(killer);
  }
}

export class ClusterLauncher {
  readonly processes: readonly LaunchedProcess[];

  constructor(readonly options: ClusterLauncherOptions) {
    this.processes = options.split ? splitShape(options) : standaloneShape(options);
  }

  /** Processes that answer HTTP requests of users. */
  get gateways(): readonly LaunchedProcess[] {
    return this.processes.filter((process) => process.app === 'standalone' || process.app === 'gateway');
  }

  /** Processes that hold the log, in the order of their node ids from 1. */
  get logNodes(): readonly LaunchedProcess[] {
    return this.processes.filter((process) => process.app === 'standalone' || process.app === 'raft-log');
  }

  /** Starts all and waits until every one of them answers /readyz. */
  async start(timeoutMs = 60_000): Promise<void> {
    mkdirSync(this.options.dataDir, { recursive: true });
    for (const process of this.processes) process.start();
    await this.ready(timeoutMs);
  }

  /** Waits until the given processes (default: all) are ready. @throws when one ends or time runs out */
  async ready(timeoutMs = 60_000, processes: readonly LaunchedProcess[] = this.processes): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (const process of processes) {
      while (!(await isReady(process.basePort))) {
        if (!process.running) throw this.notReady(process, 'ended before it was ready');
        if (performance.now() > deadline) throw this.notReady(process, `was not ready after ${timeoutMs} ms`);
        await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
      }
    }
  }

  private notReady(process: LaunchedProcess, what: string): Error {
    const file = this.logFile(process);
    const said = existsSync(file)
      ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-LOG_LINES_SHOWN).join('\n')
      : '';
    return new Error(`${process.name} ${what}; the end of ${file}:\n${said}`);
  }

  logFile(process: LaunchedProcess): string {
    return join(this.options.dataDir, `${process.name}.log`);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all(this.processes.map((process) => process.stop(signal)));
  }
}

const isReady = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = request({ host: '127.0.0.1', port, path: '/readyz', timeout: 1000, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    probe.once('error', () => resolve(false));
    probe.once('timeout', () => probe.destroy());
    probe.end();
  });

/** The cluster's name, made at its first start, so that data directories of two clusters are told apart. */
const clusterName = (dataDir: string): string => {
  const file = join(dataDir, 'cluster-name');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  mkdirSync(dataDir, { recursive: true });
  const name = `local-${randomBytes(4).toString('hex')}`;
  writeFileSync(file, `${name}\n`);
  return name;
};

const asArgs = (options: Readonly<Record<string, string>>): string[] =>
  Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);

const baseOf = (options: ClusterLauncherOptions, index: number): number => options.basePort + 100 * index;

const PEER_PORT = 11;
const LOG_PORT = 10;
const VIEW_PORT = 20;

const peersOf = (options: ClusterLauncherOptions): string =>
  Array.from({ length: options.nodes }, (_, i) => `${i + 1}@127.0.0.1:${baseOf(options, i) + PEER_PORT}`).join(',');

const standaloneShape = (options: ClusterLauncherOptions): LaunchedProcess[] =>
  Array.from({ length: options.nodes }, (_, i) => {
    const name = `node-${i + 1}`;
    const args = asArgs({
      'node-id': String(i + 1),
      peers: peersOf(options),
      'cluster-name': clusterName(options.dataDir),
      'base-port': String(baseOf(options, i)),
      'data-dir': join(options.dataDir, name),
      ...options.options,
    });
    return new LaunchedProcess(name, 'standalone', baseOf(options, i), args, options);
  });

const MATERIALIZERS = 2;

const splitShape = (options: ClusterLauncherOptions): LaunchedProcess[] => {
  const cluster = clusterName(options.dataDir);
  const at = (index: number): number => baseOf(options, index);
  const logNodes = Array.from({ length: options.nodes }, (_, i) => `127.0.0.1:${at(i) + LOG_PORT}`).join(',');
  const viewAddresses = Array.from(
    { length: MATERIALIZERS },
    (_, i) => `127.0.0.1:${at(options.nodes + i) + VIEW_PORT}`,
  ).join(',');
  const common = { 'cluster-name': cluster, ...options.options };
  const processes: LaunchedProcess[] = [];
  for (let i = 0; i < options.nodes; i++) {
    const name = `raft-log-${i + 1}`;
    const args = asArgs({
      'node-id': String(i + 1),
      peers: peersOf(options),
      'base-port': String(at(i)),
      'data-dir': join(options.dataDir, name),
      ...common,
    });
    processes.push(new LaunchedProcess(name, 'raft-log', at(i), args, options));
  }
  for (let i = 0; i < MATERIALIZERS; i++) {
    const name = `materializer-${i + 1}`;
    const base = at(options.nodes + i);
    const args = asArgs({
      'log-nodes': logNodes,
      materializers: viewAddresses,
      'base-port': String(base),
      'data-dir': join(options.dataDir, name),
      ...common,
    });
    processes.push(new LaunchedProcess(name, 'materializer', base, args, options));
  }
  const base = at(options.nodes + MATERIALIZERS);
  const args = asArgs({
    'log-nodes': logNodes,
    materializers: viewAddresses,
    'base-port': String(base),
    'data-dir': join(options.dataDir, 'gateway'),
    ...common,
  });
  processes.push(new LaunchedProcess('gateway', 'gateway', base, args, options));
  return processes;
};
