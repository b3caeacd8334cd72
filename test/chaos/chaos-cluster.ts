import { cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { LaunchedProcess } from '../../apps/cli/src/cluster-launcher.js';
import { freeBasePort } from '../support/free-ports.js';
import { Countdown } from './countdown.js';
import { ProxiedNetwork } from './proxied-network.js';
import { SmallDisk } from './small-disk.js';

/**
 * Standalone nodes that reach each other through proxies only: peers by addresses given to each node, log service and native port by the
 * address each node advertises, which is one of the loopback network that only the proxies listen on.
 */
export interface ChaosClusterOptions {
  readonly nodes: number;
  readonly directory: string;
  readonly topics: string;
  /** Size of the last node's disk. */
  readonly smallDiskBytes: number;
  /** A node ended that nobody ended. */
  readonly onUnexpectedExit: (node: ChaosNode, why: string) => void;
}

/** The smallest allowed: sealing, indexes and reading across files are part of every run. */
export const SEGMENT_BYTES = 1024 * 1024;

const HTTP = 0;
const NATIVE = 1;
const NEST = 2;
const LOG = 10;
const PEER = 11;
const READY_POLL_MS = 50;

export class ChaosNode {
  /** A fault has it in hand: it is no fault's victim until that is over. */
  taken = false;
  /** Its end is part of a fault: the disk is full. */
  mayEnd = false;

  constructor(
    readonly id: number,
    readonly process: LaunchedProcess,
    readonly dataDir: string,
    readonly disk: SmallDisk | null,
    /** Native endpoint as clients reach it. */
    readonly nativeAddress: string,
  ) {}

  get name(): string {
    return this.process.name;
  }

  get nestPort(): number {
    return this.process.basePort + NEST;
  }

  url(path: string): string {
    return `http://${this.process.httpAddress}${path}`;
  }

  async getJson<T>(path: string, timeoutMs = 10_000): Promise<T> {
    const response = await fetch(this.url(path), { signal: AbortSignal.timeout(timeoutMs) });
    if (!response.ok) throw new Error(`GET ${path} from ${this.name}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  async isReady(): Promise<boolean> {
    try {
      const response = await fetch(this.url('/readyz'), { signal: AbortSignal.timeout(1000) });
      await response.arrayBuffer();
      return response.status === 200;
    } catch {
      return false;
    }
  }

  /** What the health checks that fail say; empty when none does or nobody answers. */
  async failedChecks(): Promise<string> {
    try {
      const response = await fetch(this.url('/readyz'), { signal: AbortSignal.timeout(1000) });
      const text = await response.text();
      return response.status === 200 ? '' : text;
    } catch {
      return '';
    }
  }
}

export class ChaosCluster {
  readonly network = new ProxiedNetwork();
  readonly nodes: ChaosNode[] = [];
  /** Why there is no small disk; empty when there is. */
  smallDiskRefusal = '';
  /** Why the log service and the native port are not proxied; empty when they are. */
  advertisedRefusal = '';

  private unmounted = false;

  private constructor(readonly options: ChaosClusterOptions) {}

  static async create(options: ChaosClusterOptions): Promise<ChaosCluster> {
    const cluster = new ChaosCluster(options);
    try {
      await cluster.lay();
    } catch (error) {
      await cluster.stop();
      cluster.unmount({ keep: false });
      throw error;
    }
    return cluster;
  }

  private async lay(): Promise<void> {
    const { nodes, directory, topics } = this.options;
    const basePort = await freeBasePort(nodes);
    const portOf = (id: number, service: number): number => basePort + 100 * (id - 1) + service;
    const ids = Array.from({ length: nodes }, (_, i) => i + 1);
    const hosts = new Map<number, string>();
    for (const id of ids) hosts.set(id, await this.advertise(id, [portOf(id, LOG), portOf(id, NATIVE)]));
    for (const id of ids) {
      const peers: string[] = [];
      for (const to of ids) {
        const port = portOf(to, PEER);
        const proxied =
          to === id ? port : await this.network.listen({ from: id, to, port, at: { host: '127.0.0.1', port: 0 } });
        peers.push(`${to}@127.0.0.1:${proxied}`);
      }
      const name = `node-${id}`;
      const disk = id === nodes ? this.mountSmallDisk(join(directory, `${name}-disk`)) : null;
      const dataDir = disk ? join(disk.path, 'data') : join(directory, name);
      mkdirSync(dataDir, { recursive: true });
      const args = Object.entries({
        'node-id': String(id),
        peers: peers.join(','),
        'advertise-host': hosts.get(id)!,
        'cluster-name': 'chaos',
        'base-port': String(portOf(id, HTTP)),
        'data-dir': dataDir,
        'segment-bytes': String(SEGMENT_BYTES),
        // A segment must hold the largest request.
        'request-bytes-max': '256KiB',
        'record-bytes-max': '128KiB',
        'log-level': 'info',
        'log-format': 'json',
        topics,
      }).flatMap(([option, value]) => [`--${option}`, value]);
      const process = new LaunchedProcess(name, 'standalone', portOf(id, HTTP), args, {
        nodes,
        dataDir: directory,
        basePort,
        split: false,
        onUnexpectedExit: (_, why) => {
          if (!node.mayEnd) this.options.onUnexpectedExit(node, why);
        },
      });
      const node = new ChaosNode(id, process, dataDir, disk, `${hosts.get(id)!}:${portOf(id, NATIVE)}`);
      this.nodes.push(node);
    }
  }

  /** The host by which the others reach a node: one that proxies listen on, where the system has it. */
  private async advertise(id: number, ports: readonly number[]): Promise<string> {
    const host = `127.0.1.${id}`;
    try {
      for (const port of ports) await this.network.listen({ from: null, to: id, port, at: { host, port } });
      return host;
    } catch (error) {
      this.advertisedRefusal = (error as Error).message;
      return '127.0.0.1';
    }
  }

  private mountSmallDisk(path: string): SmallDisk | null {
    const disk = SmallDisk.mount(path, this.options.smallDiskBytes);
    if (disk instanceof SmallDisk) return disk;
    this.smallDiskRefusal = disk;
    return null;
  }

  /** Everything the process has said. */
  logOf(node: ChaosNode): string {
    return readFileSync(join(this.options.directory, `${node.name}.log`), 'utf8');
  }

  node(id: number): ChaosNode {
    return this.nodes[id - 1];
  }

  /** Waits until all given nodes are ready. @throws when one ends or time runs out */
  async ready(timeoutMs: number, nodes: readonly ChaosNode[] = this.nodes): Promise<void> {
    const countdown = new Countdown(timeoutMs);
    for (const node of nodes) {
      while (!(await node.isReady())) {
        if (!node.process.running) throw new Error(`${node.name} ended before it was ready`);
        if (countdown.isOver)
          throw new Error(`${node.name} was not ready after ${timeoutMs} ms: ${await node.failedChecks()}`);
        await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
      }
    }
  }

  /** The node that leads a partition, as far as a node that answers knows. */
  async leader(topic: string, partition: number): Promise<ChaosNode | null> {
    interface Described {
      readonly topics: readonly {
        readonly name: string;
        readonly partitions: readonly { readonly leader: number }[];
      }[];
    }
    for (const node of this.nodes) {
      if (!node.process.running || node.taken) continue;
      try {
        const cluster = await node.getJson<Described>('/v1/cluster', 1000);
        const leader = cluster.topics.find((t) => t.name === topic)?.partitions[partition]?.leader ?? 0;
        if (leader > 0) return this.node(leader);
      } catch {
        // The next one may answer.
      }
    }
    return null;
  }

  /** Ends all processes, by their ids, and the proxies. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    for (const { process } of this.nodes) process.kill('SIGCONT');
    await Promise.all(this.nodes.map(({ process }) => process.stop(signal)));
    await this.network.close();
  }

  /** For the last moment, when nothing can be waited for. */
  killNow(): void {
    for (const { process } of this.nodes) process.kill('SIGKILL');
    this.unmount({ keep: false });
  }

  /** Lets the small disk go; what is on it is copied beside the other nodes' data if it shall be kept. */
  unmount(options: { readonly keep: boolean }): void {
    if (this.unmounted) return;
    this.unmounted = true;
    for (const node of this.nodes) {
      if (node.disk === null) continue;
      node.disk.empty();
      if (options.keep) cpSync(node.dataDir, join(this.options.directory, node.name), { recursive: true });
      node.disk.unmount();
      rmSync(node.disk.path, { recursive: true, force: true });
    }
  }
}
