import { TidelineError, randomBelow, randomChance, type Clock, type Rng, type Scheduler } from '#kernel';
import type { Hello } from '#wire';
import { formatAddress, parseAddress } from '../address.js';
import type { ByteLink, ByteLinkEvents } from '../byte-link.js';
import type { ConnectionHandler, Listener, NetLimits, Transport } from '../connection.js';
import { DeadlineWheel } from '../deadline-wheel.js';
import { FramedConnection, type ConnectionEnvironment } from '../framed-connection.js';
import { CONNECT_TIMEOUT_MS, withDefaults } from '../net-limits.js';

/**
 * A network in memory, run by a scheduler and a seeded generator: machines with names, links between them with delay, that can be cut
 * either way, slowed down and reset. The connections on it are the real ones (FramedConnection), frames and all.
 *
 * It behaves like TCP: bytes of one direction arrive in order; across a cut nothing arrives and nothing is lost until one side gives up
 * (its silence check does), a cut that heals before delivers everything; a connection attempt across a cut finds nobody.
 */
export interface MemoryNetworkOptions {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
}

/** Change at any time; applies to what is sent from then on. */
export interface MemoryNetworkWeather {
  delayMsMin: number;
  delayMsMax: number;
  /** That a chunk resets its connection instead of arriving. */
  resetChance: number;
}

/** What a kernel would hold of one direction before `send` has to wait. */
const KERNEL_BYTES = 256 * 1024;

interface Address {
  readonly machine: string;
  readonly listener: MemoryListener;
}

/** One direction of one connection. */
class Pipe {
  private readonly chunks: { readonly bytes: Buffer; readonly dueMs: number }[] = [];
  private bytes = 0;
  private lastDueMs = 0;
  private timer = false;
  private finishing = false;
  paused = false;
  dead = false;

  constructor(
    private readonly network: MemoryNetwork,
    readonly from: string,
    readonly to: string,
    private readonly sender: () => MemoryLink,
    private readonly receiver: () => MemoryLink,
  ) {}

  get pendingBytes(): number {
    return Math.max(0, this.bytes - KERNEL_BYTES);
  }

  push(pieces: readonly Uint8Array[]): void {
    if (this.dead || this.finishing) return;
    // A copy, as the kernel makes one: the receiver may write into what it got.
    const bytes = Buffer.concat(pieces);
    const { clock, scheduler } = this.network.options;
    this.lastDueMs = Math.max(this.lastDueMs, clock.monotonicMs() + this.network.drawDelayMs());
    this.chunks.push({ bytes, dueMs: this.lastDueMs });
    this.bytes += bytes.length;
    if (this.pendingBytes === 0) scheduler.defer(() => this.sender().tellHandedOn(false));
    this.run();
  }

  /** After what is under way, the end. */
  finish(): void {
    this.finishing = true;
    this.run();
  }

  /** Delivers what is due; called again whenever something that held it up may have changed. */
  readonly run = (): void => {
    if (this.timer || this.dead || this.paused || this.network.isCut(this.from, this.to)) return;
    const { clock, scheduler } = this.network.options;
    const wait = (this.chunks.length > 0 ? this.chunks[0].dueMs : this.lastDueMs) - clock.monotonicMs();
    if (this.chunks.length === 0 && !this.finishing) return;
    const clogMs = this.network.clogMs(this.from, this.to);
    this.timer = true;
    scheduler.after(Math.max(0, wait, clogMs), () => {
      this.timer = false;
      this.deliver();
      this.run();
    });
  };

  private deliver(): void {
    if (this.dead || this.paused || this.network.isCut(this.from, this.to)) return;
    if (this.network.clogMs(this.from, this.to) > 0) return;
    const now = this.network.options.clock.monotonicMs();
    while (this.chunks.length > 0 && this.chunks[0].dueMs <= now && !this.paused && !this.dead) {
      if (this.network.drawReset()) return this.sender().reset();
      const waited = this.pendingBytes > 0;
      const { bytes } = this.chunks.shift()!;
      this.bytes -= bytes.length;
      if (waited) this.sender().tellHandedOn(true);
      this.receiver().receive(bytes);
    }
    if (this.chunks.length === 0 && this.finishing && !this.dead) {
      this.dead = true;
      this.receiver().remoteEnded();
    }
  }
}

class MemoryLink implements ByteLink {
  private finished = false;
  out: Pipe | null = null;
  in: Pipe | null = null;
  connection: ByteLinkEvents | null = null;

  constructor(
    private readonly network: MemoryNetwork,
    readonly machine: string,
    readonly remoteAddress: string,
  ) {}

  get pendingBytes(): number {
    return this.out!.pendingBytes;
  }

  send(pieces: readonly Uint8Array[]): void {
    if (!this.finished) this.out!.push(pieces);
  }

  pauseReading(): void {
    this.in!.paused = true;
  }

  resumeReading(): void {
    this.in!.paused = false;
    this.in!.run();
  }

  end(): void {
    this.finished = true;
    this.resumeReading();
    this.out!.finish();
    this.network.forget(this);
  }

  destroy(): void {
    this.end();
  }

  receive(bytes: Buffer): void {
    if (!this.finished) this.connection?.data(bytes);
  }

  tellHandedOn(waited: boolean): void {
    if (!this.finished) this.connection?.handedOn(waited);
  }

  remoteEnded(): void {
    if (this.finished) return;
    this.finished = true;
    this.out!.finish();
    this.network.forget(this);
    this.connection?.closed(null);
  }

  /** Both ends learn of it; what was under way is lost. */
  reset(): void {
    for (const pipe of [this.in!, this.out!]) pipe.dead = true;
    const { scheduler } = this.network.options;
    for (const link of this.network.endsOf(this)) scheduler.defer(() => link.broken());
  }

  broken(): void {
    if (this.finished) return;
    this.finished = true;
    this.network.forget(this);
    this.connection?.closed(new Error('connection reset'));
  }
}

class MemoryListener implements Listener {
  readonly open = new Set<FramedConnection>();
  closed = false;

  constructor(
    readonly address: string,
    readonly port: number,
    readonly hello: Hello,
    readonly handler: ConnectionHandler,
    readonly limits: NetLimits,
    private readonly onClose: () => void,
  ) {}

  get connections(): number {
    return this.open.size;
  }

  close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      this.onClose();
      for (const connection of this.open) {
        connection.goAway(new TidelineError('shutting-down', 'the node is stopping'));
      }
    }
    return Promise.resolve();
  }
}

export class MemoryNetwork {
  readonly weather: MemoryNetworkWeather = { delayMsMin: 0, delayMsMax: 1, resetChance: 0 };
  private readonly listeners = new Map<string, Address>();
  private readonly links = new Map<MemoryLink, MemoryLink>();
  private readonly cuts = new Set<string>();
  private readonly clogs = new Map<string, number>();
  private readonly pipes = new Set<Pipe>();
  private readonly wheel: DeadlineWheel;
  private lastConnectionId = 0;
  private lastPort = 20_000;

  constructor(readonly options: MemoryNetworkOptions) {
    this.wheel = new DeadlineWheel(options.clock, options.scheduler);
  }

  /** The transport of one machine. Addresses are those it listens on; a dialling machine is known by its name. */
  transport(machine: string): Transport {
    const transport: Transport = {
      listen: (address, hello, handler, limits) => this.listen(machine, address, hello, handler, limits),
      dial: (...args) => this.dial(machine, ...args),
      connect: (address, hello, handler, options = {}) =>
        new Promise((resolve, reject) => {
          this.dial(machine, address, hello, handler, options, (error, connection) => {
            if (connection === null) reject(error!);
            else resolve(connection);
          });
        }),
    };
    return transport;
  }

  /* ---- faults ---- */

  /** Nothing more gets from one machine to the other, one way. */
  cut(from: string, to: string): void {
    this.cuts.add(`${from}>${to}`);
  }

  /** Cuts both ways between any machine of one side and any of the other. */
  partition(left: readonly string[], right: readonly string[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  /** Without arguments: ends every cut and clog. */
  heal(from?: string, to?: string): void {
    if (from === undefined || to === undefined) {
      this.cuts.clear();
      this.clogs.clear();
    } else {
      this.cuts.delete(`${from}>${to}`);
      this.clogs.delete(`${from}>${to}`);
    }
    this.runAll();
  }

  /** What is sent one way waits for so long, and then arrives all at once. */
  clog(from: string, to: string, durationMs: number): void {
    this.clogs.set(`${from}>${to}`, this.options.clock.monotonicMs() + durationMs);
  }

  /** Breaks all connections between two machines at once, losing what is under way. */
  reset(one: string, other: string): void {
    for (const [link, peer] of this.links) {
      if (link.machine === one && peer.machine === other) link.reset();
    }
  }

  /** The machine is gone: its listeners and its ends of connections vanish without a word; others find out by reset. */
  crash(machine: string): void {
    for (const [address, { machine: owner, listener }] of this.listeners) {
      if (owner !== machine) continue;
      listener.closed = true;
      this.listeners.delete(address);
    }
    for (const link of this.links.keys()) if (link.machine === machine) link.reset();
  }

  /** Open connections, each counted once at either end. */
  get linkCount(): number {
    return this.links.size;
  }

  isCut(from: string, to: string): boolean {
    return this.cuts.has(`${from}>${to}`);
  }

  clogMs(from: string, to: string): number {
    const until = this.clogs.get(`${from}>${to}`);
    return until === undefined ? 0 : Math.max(0, until - this.options.clock.monotonicMs());
  }

  drawDelayMs(): number {
    const { delayMsMin, delayMsMax } = this.weather;
    return delayMsMin + randomBelow(this.options.rng, Math.max(0, delayMsMax - delayMsMin) + 1);
  }

  drawReset(): boolean {
    return this.weather.resetChance > 0 && randomChance(this.options.rng, this.weather.resetChance);
  }

  endsOf(link: MemoryLink): MemoryLink[] {
    const peer = this.links.get(link);
    return peer === undefined ? [link] : [link, peer];
  }

  /** This end has finished; when both have, nothing that is under way matters. */
  forget(link: MemoryLink): void {
    const peer = this.links.get(link);
    if (peer === undefined) return;
    this.links.delete(link);
    if (this.links.has(peer)) return;
    for (const pipe of [link.in!, link.out!]) {
      pipe.dead = true;
      this.pipes.delete(pipe);
    }
  }

  private runAll(): void {
    for (const pipe of this.pipes) pipe.run();
  }

  /* ---- the transport ---- */

  private listen(
    machine: string,
    address: { readonly host: string; readonly port: number },
    hello: Hello,
    handler: ConnectionHandler,
    limits?: Partial<NetLimits>,
  ): Promise<Listener> {
    const port = address.port === 0 ? ++this.lastPort : address.port;
    const name = formatAddress({ host: address.host, port });
    if (this.listeners.has(name)) {
      return Promise.reject(new TidelineError('address-in-use', `another machine listens on ${name}`));
    }
    const listener = new MemoryListener(name, port, hello, handler, withDefaults(limits), () => {
      if (this.listeners.get(name)?.listener === listener) this.listeners.delete(name);
    });
    this.listeners.set(name, { machine, listener });
    return Promise.resolve(listener);
  }

  private dial(
    machine: string,
    ...[address, hello, handler, options, done]: Parameters<Transport['dial']>
  ): () => void {
    const { scheduler } = this.options;
    const timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
    let settled = false;
    let dialled: FramedConnection | null = null;
    const cancelTimeout = scheduler.after(timeoutMs, () => fail(`no hello in ${timeoutMs} ms`));
    const settle = (error: TidelineError | null, connection: FramedConnection | null): void => {
      if (settled) return;
      settled = true;
      cancelTimeout();
      if (error !== null) dialled?.close();
      done(error, connection);
    };
    const fail = (message: string): void =>
      settle(
        new TidelineError('connection-lost', `cannot reach ${address}: ${message}`, { outcome: 'rejected' }),
        null,
      );

    scheduler.after(this.drawDelayMs(), () => {
      if (settled) return;
      let name: string;
      try {
        name = formatAddress(parseAddress(address));
      } catch (error) {
        return settle(error as TidelineError, null);
      }
      const found = this.listeners.get(name);
      if (found === undefined) return fail('connection refused');
      if (this.isCut(machine, found.machine) || this.isCut(found.machine, machine)) return; // the timeout says so
      dialled = this.join(machine, found, address, { hello, handler, options, timeoutMs }, settle, fail);
    });
    return () => {
      if (settled) return;
      settled = true;
      cancelTimeout();
      dialled?.close();
    };
  }

  private join(
    machine: string,
    { machine: remoteMachine, listener }: Address,
    address: string,
    dialling: {
      readonly hello: Hello;
      readonly handler: ConnectionHandler | null;
      readonly options: { readonly limits?: Partial<NetLimits> };
      readonly timeoutMs: number;
    },
    settle: (error: TidelineError | null, connection: FramedConnection | null) => void,
    fail: (message: string) => void,
  ): FramedConnection {
    const environment: ConnectionEnvironment = {
      clock: this.options.clock,
      scheduler: this.options.scheduler,
      wheel: this.wheel,
      flushLater: (flush) => this.options.scheduler.defer(flush),
    };
    const near = new MemoryLink(this, machine, address);
    const far = new MemoryLink(this, remoteMachine, `${machine}:${this.lastConnectionId + 1}`);
    const there = new Pipe(
      this,
      machine,
      remoteMachine,
      () => near,
      () => far,
    );
    const back = new Pipe(
      this,
      remoteMachine,
      machine,
      () => far,
      () => near,
    );
    near.out = far.in = there;
    near.in = far.out = back;
    this.links.set(near, far).set(far, near);
    this.pipes.add(there).add(back);

    const accepted = new FramedConnection({
      id: ++this.lastConnectionId,
      link: far,
      role: 'accepting',
      hello: listener.hello,
      handler: listener.handler,
      limits: listener.limits,
      environment,
      closed: (connection) => listener.open.delete(connection),
    });
    far.connection = accepted;
    const dialled = new FramedConnection({
      id: ++this.lastConnectionId,
      link: near,
      role: 'dialling',
      hello: dialling.hello,
      handler: dialling.handler,
      limits: { ...withDefaults(dialling.options.limits), helloTimeoutMs: dialling.timeoutMs },
      environment,
      opened: (connection) => settle(null, connection),
      closed: (_connection, error) => {
        if (error !== null && error.code !== 'connection-lost') settle(error, null);
        else fail(error?.message ?? 'closed');
      },
    });
    near.connection = dialled;
    if (listener.open.size >= listener.limits.connectionsMax) {
      accepted.goAway(new TidelineError('overloaded', `no more than ${listener.limits.connectionsMax} connections`));
    } else listener.open.add(accepted);
    return dialled;
  }
}
