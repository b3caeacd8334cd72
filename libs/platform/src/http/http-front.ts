import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { eventLoopTurn, systemClock, systemScheduler, type Clock, type Scheduler } from '#kernel';
import type { DirectAnswers } from './direct-answers.js';
import { PlainConnection, type PlainConnectionHost } from './plain-connection.js';

/** Times are looked at this often. */
const TICK_MS = 1000;
/** Connections that are to close have this long to take their last answers. */
const CLOSE_GRACE_MS = 10_000;

export interface HttpFrontTime {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Runs the task at the end of the turn. */
  readonly atEnd: (task: () => void) => void;
}

const SYSTEM_TIME: HttpFrontTime = {
  clock: systemClock,
  scheduler: systemScheduler,
  atEnd: (task) => eventLoopTurn.atEnd(task),
};

type ConnectionListener = (this: Server, socket: Socket) => void;

/**
 * Stands before Node's HTTP server on the same port and answers what is plain by itself: requests and responses as streams with their events cost
 * 30 to 50 µs each, more than all the rest of reading an entry. A connection begins here, and with its first request that is anything else it
 * becomes an ordinary one of Node's server, which never learns that it was not so from the start.
 *
 * What Node's server limits is limited here in the same way: the time for a request, idle time (by its own settings), the number of connections
 * (by the listening socket, which is its own).
 */
export class HttpFront implements PlainConnectionHost {
  tick = 0;
  readonly #server: Server;
  readonly #time: HttpFrontTime;
  readonly #listeners: ConnectionListener[];
  readonly #connections = new Set<PlainConnection>();
  readonly #requestTicks: number;
  readonly #keepAliveTicks: number;
  readonly #persistence: string;
  #answered: PlainConnection[] = [];
  #second = -1;
  #endOfHead = '';
  #isOpen = true;
  #isClosing = false;
  #stopTicking: (() => void) | null = null;

  constructor(
    server: Server,
    readonly direct: DirectAnswers,
    time: HttpFrontTime = SYSTEM_TIME,
  ) {
    this.#server = server;
    this.#time = time;
    this.#requestTicks = Math.ceil(server.requestTimeout / TICK_MS);
    this.#keepAliveTicks = Math.ceil(server.keepAliveTimeout / TICK_MS);
    this.#persistence = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(server.keepAliveTimeout / 1000)}\r\n\r\n`;
    this.#listeners = server.listeners('connection') as ConnectionListener[];
    server.removeAllListeners('connection');
    server.on('connection', this.#accept);
  }

  /** Connections that are still here. */
  get size(): number {
    return this.#connections.size;
  }

  /** All connections become Node's server's, those that wait for answers when they have got them. */
  stop(): void {
    this.#isOpen = false;
    for (const connection of this.#connections) connection.leave();
  }

  /** Ends the connections, those that wait for answers when they have got them. */
  close(): void {
    if (this.#isClosing) return;
    this.#isOpen = false;
    this.#isClosing = true;
    for (const connection of this.#connections) connection.close();
    if (this.#connections.size === 0) return;
    const giveUp = this.#time.scheduler.after(CLOSE_GRACE_MS, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    this.#server.once('close', giveUp);
  }

  readonly #accept = (socket: Socket): void => {
    if (!this.#isOpen) {
      this.#give(socket);
      return;
    }
    this.#connections.add(new PlainConnection(socket, this));
    this.#stopTicking ??= this.#time.scheduler.after(TICK_MS, this.#onTick);
  };

  readonly #onTick = (): void => {
    this.tick++;
    this.#stopTicking = this.#time.scheduler.after(TICK_MS, this.#onTick);
    const limits = { requestTicks: this.#requestTicks, keepAliveTicks: this.#keepAliveTicks };
    for (const connection of this.#connections) connection.checkTime(limits);
  };

  endOfHead(): string {
    const second = Math.floor(this.#time.clock.wallMs() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#endOfHead = `Date: ${new Date(second * 1000).toUTCString()}\r\n${this.#persistence}`;
    }
    return this.#endOfHead;
  }

  flushLater(connection: PlainConnection): void {
    // A write to a socket wakes who waits there, and takes the core from who would write the next: all that was answered in a turn leaves together.
    if (this.#answered.push(connection) === 1) this.#time.atEnd(this.#flush);
  }

  readonly #flush = (): void => {
    const connections = this.#answered;
    this.#answered = [];
    for (let i = 0; i < connections.length; i++) connections[i].flush();
  };

  forget(connection: PlainConnection): void {
    this.#connections.delete(connection);
    if (this.#connections.size > 0) return;
    this.#stopTicking?.();
    this.#stopTicking = null;
  }

  handOver(socket: Socket, unread: Buffer | null): void {
    // Nothing may be read between the old listeners and the new ones.
    socket.pause();
    if (unread !== null) socket.unshift(unread);
    this.#give(socket);
    socket.resume();
  }

  #give(socket: Socket): void {
    for (const listener of this.#listeners) listener.call(this.#server, socket);
  }

  refuse(socket: Socket, code: string): void {
    const told = this.#server.emit('clientError', Object.assign(new Error('no request'), { code }), socket);
    if (!told) socket.destroy();
  }
}
