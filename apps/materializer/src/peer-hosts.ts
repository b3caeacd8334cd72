import { TidelineError, toTidelineError, type Rng, type Scheduler } from '#kernel';
import { ReconnectingPeer, type Hello, type Transport } from '#net';
import { SNAPSHOT_PIECE_BYTES_MAX, snapshotServiceV1, type RequestCall } from '#wire';
import type { SnapshotInfo } from '#views';
import type { SnapshotBytes } from './snapshot-bytes.js';
import type { SnapshotSource } from './snapshot-store.js';

/** Hosts that are asked; more would be a cluster of another kind. */
const PEERS_MAX = 64;
const ASK_TIMEOUT_MS = 2_000;
const PIECE_TIMEOUT_MS = 10_000;
/** Times a piece is asked for before its slots are given up. */
const PIECE_ATTEMPTS = 4;
const PIECE_PAUSE_MS = 200;

export interface PeerHostsOptions {
  readonly transport: Transport;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  /** This host, as the others know it. */
  readonly own: string;
  /** View services besides those the log nodes tell of, host:port. */
  readonly addresses: readonly string[];
}

/** A snapshot on another host. */
export interface PeerSnapshot {
  readonly info: SnapshotInfo;
  open(): SnapshotBytes;
}

/** The other hosts of the same views: what they have is asked for over the view service's port. */
export class PeerHosts {
  private readonly peers = new Map<string, ReconnectingPeer>();
  /** Addresses at which a first attempt is still under way. */
  private readonly untried = new Set<string>();
  private readonly waiting = new Set<() => void>();
  private closed = false;

  constructor(private readonly options: PeerHostsOptions) {
    this.follow(options.addresses);
  }

  /** These are there too. */
  follow(addresses: readonly string[]): void {
    const { transport, scheduler, rng, own } = this.options;
    if (this.closed) return;
    for (const address of addresses) {
      if (address === own || this.peers.has(address) || this.peers.size >= PEERS_MAX) continue;
      const hello: Hello = { nodeId: 0, clusterId: '', service: 'view', software: 'tideline', addresses: {} };
      this.untried.add(address);
      const tried = (): void => {
        this.untried.delete(address);
        if (this.untried.size === 0) for (const go of this.waiting) go();
      };
      const peer = new ReconnectingPeer({ transport, address, hello, scheduler, rng, onOpen: tried, onRefused: tried });
      this.peers.set(address, peer);
    }
  }

  /** Hosts that are known, this one not counted. */
  get count(): number {
    return this.peers.size;
  }

  get connected(): number {
    return this.reachable.length;
  }

  /** Addresses at which there is a connection. */
  get reachable(): readonly string[] {
    return this.connectedPeers.map(({ address }) => address);
  }

  private get connectedPeers(): ReconnectingPeer[] {
    return [...this.peers.values()].filter(({ connection }) => connection !== null);
  }

  /** Resolves when each host has been tried once, or after so long. */
  async tried(withinMs: number): Promise<void> {
    if (this.untried.size === 0 || this.closed) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        cancel();
        this.waiting.delete(go);
        resolve();
      };
      const cancel = this.options.scheduler.after(withinMs, go);
      this.waiting.add(go);
    });
  }

  /** What all hosts that can be reached answer; those that do not are left out. */
  async askAll<Request, Response>(
    call: RequestCall<Request, Response>,
    request: Request,
  ): Promise<{ readonly address: string; readonly answer: Response }[]> {
    const answers = await Promise.all(
      this.connectedPeers.map(async (peer) => {
        const answer = await ask(peer, call, request, ASK_TIMEOUT_MS).catch(() => null);
        return answer === null ? [] : [{ address: peer.address, answer }];
      }),
    );
    return answers.flat();
  }

  async ask<Request, Response>(
    address: string,
    call: RequestCall<Request, Response>,
    request: Request,
    timeoutMs = ASK_TIMEOUT_MS,
  ): Promise<Response> {
    const peer = this.peers.get(address);
    if (!peer) throw new TidelineError('connection-lost', `no host at ${address}`, { outcome: 'rejected' });
    return ask(peer, call, request, timeoutMs);
  }

  /** Of the other hosts alone; verified ones, newest first. */
  async snapshots(source: SnapshotSource): Promise<PeerSnapshot[]> {
    const answers = await this.askAll(snapshotServiceV1.snapshots, { view: source.view, everywhere: false });
    return answers
      .flatMap(({ address, answer }) =>
        answer
          .filter((info) => info.partition === source.partition && info.verified && info.host !== this.options.own)
          .map((info): PeerSnapshot => ({ info, open: () => this.open(address, source, info) })),
      )
      .sort((a, b) => b.info.offset - a.info.offset);
  }

  private open(address: string, source: SnapshotSource, info: SnapshotInfo): SnapshotBytes {
    const piece = async (position: number, length: number): Promise<Buffer> => {
      const request = { ...source, offset: info.offset, position, length };
      for (let attempt = 1; ; attempt++) {
        const peer = this.peers.get(address)!;
        try {
          const { fileBytes, bytes } = await ask(peer, snapshotServiceV1.piece, request, PIECE_TIMEOUT_MS);
          if (fileBytes === info.bytes && bytes.length === length) return bytes;
          throw new TidelineError('storage-damaged', `it has ${fileBytes} bytes there, not ${info.bytes}`);
        } catch (thrown) {
          const error = toTidelineError(thrown);
          if (attempt === PIECE_ATTEMPTS || this.closed || error.code === 'not-found') throw error;
          await new Promise<void>((resolve) => {
            this.options.scheduler.after(PIECE_PAUSE_MS * attempt, resolve);
          });
        }
      }
    };
    return {
      name: `snapshot at offset ${info.offset} on ${info.host}`,
      bytes: info.bytes,
      read: async (position, length) => {
        if (length <= SNAPSHOT_PIECE_BYTES_MAX) return piece(position, length);
        const whole = Buffer.allocUnsafe(length);
        for (let at = 0; at < length; at += SNAPSHOT_PIECE_BYTES_MAX) {
          const bytes = await piece(position + at, Math.min(SNAPSHOT_PIECE_BYTES_MAX, length - at));
          bytes.copy(whole, at);
        }
        return whole;
      },
      close: () => undefined,
    };
  }

  close(): void {
    this.closed = true;
    for (const peer of this.peers.values()) peer.close();
    for (const go of this.waiting) go();
  }
}

const ask = <Request, Response>(
  peer: ReconnectingPeer,
  call: RequestCall<Request, Response>,
  request: Request,
  timeoutMs: number,
): Promise<Response> =>
  new Promise((resolve, reject) => {
    peer.request(call.method, call.encodeRequest(request), { timeoutMs }, (error, answer) => {
      if (error !== null) return reject(error);
      try {
        resolve(call.decodeResponse(answer));
      } catch (thrown) {
        reject(thrown as Error);
      }
    });
  });
