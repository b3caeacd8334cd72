import { describe, expect, test } from '@jest/globals';
import type { Clock, Scheduler, TidelineError } from '#kernel';
import { FrameDecoder, FrameType, encodeFrame, encodeHello, type Hello } from '#wire';
import type { ByteLink } from './byte-link.js';
import { DeadlineWheel } from './deadline-wheel.js';
import { FramedConnection } from './framed-connection.js';
import { withDefaults } from './net-limits.js';

const IDLE_PING_MS = 40;

/**
 * One side's event loop, pass by pass as Node's: timers that are due, then what sockets have received, then what was deferred. While it
 * stands still time goes on, and what arrives waits in the kernel.
 */
class EventLoop implements Clock, Scheduler {
  private nowMs = 0;
  private timers: { readonly dueMs: number; readonly task: () => void }[] = [];
  private arrivals: { dueMs: number; readonly read: () => void }[] = [];
  private deferred: (() => void)[] = [];

  wallMs(): number {
    return this.nowMs;
  }
  monotonicMs(): number {
    return this.nowMs;
  }
  defer(task: () => void): void {
    this.deferred.push(task);
  }
  after(delayMs: number, task: () => void): () => void {
    const timer = { dueMs: this.nowMs + delayMs, task };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }
  arrive(delayMs: number, read: () => void): void {
    this.arrivals.push({ dueMs: this.nowMs + delayMs, read });
  }

  run(durationMs: number): void {
    for (let i = 0; i < durationMs; i++) {
      this.nowMs++;
      this.pass();
    }
  }

  /** `others`: so does the machine of the other side, and what it would have sent comes so much later. */
  standStill(durationMs: number, others: 'run' | 'stand still'): void {
    this.nowMs += durationMs;
    if (others === 'stand still') for (const arrival of this.arrivals) arrival.dueMs += durationMs;
    this.pass();
  }

  private pass(): void {
    for (const timer of this.timers.filter(({ dueMs }) => dueMs <= this.nowMs)) {
      this.timers = this.timers.filter((other) => other !== timer);
      timer.task();
    }
    const arrived = this.arrivals.filter(({ dueMs }) => dueMs <= this.nowMs);
    this.arrivals = this.arrivals.filter((arrival) => !arrived.includes(arrival));
    for (const { read } of arrived) read();
    for (const task of this.deferred.splice(0)) task();
  }
}

const hello: Hello = { nodeId: 0, clusterId: '', service: '', software: 'spec', addresses: {} };
const frameOf = (type: FrameType, payload?: Buffer): Buffer =>
  encodeFrame({ type, method: 0, id: 0, argument: 0 }, payload);

/** A connection just opened, to a peer that answers pings after `answersAfterMs`, or never. */
const openConnection = (answersAfterMs: number | null) => {
  const loop = new EventLoop();
  const sent: FrameType[] = [];
  const decoder = new FrameDecoder(
    {
      frame: (type) => {
        sent.push(type);
        if (type === FrameType.Ping && answersAfterMs !== null) {
          loop.arrive(answersAfterMs, () => connection.data(frameOf(FrameType.Pong)));
        }
      },
      malformed: (error) => {
        throw error;
      },
    },
    1 << 20,
  );
  const link: ByteLink = {
    remoteAddress: 'peer:1',
    pendingBytes: 0,
    send: (pieces) => decoder.push(Buffer.concat(pieces)),
    pauseReading: () => undefined,
    resumeReading: () => undefined,
    end: () => undefined,
    destroy: () => undefined,
  };
  const connection = new FramedConnection({
    id: 1,
    link,
    role: 'accepting',
    hello,
    handler: null,
    limits: withDefaults({ idlePingMs: IDLE_PING_MS }),
    environment: {
      clock: loop,
      scheduler: loop,
      wheel: new DeadlineWheel(loop, loop),
      flushLater: (flush) => loop.defer(flush),
    },
  });
  const ends: (TidelineError | null)[] = [];
  connection.onClose((error) => ends.push(error));
  connection.data(frameOf(FrameType.Hello, encodeHello(hello)));
  const pings = (): number => sent.filter((type) => type === FrameType.Ping).length;
  return { loop, connection, ends, pings };
};

describe('silence on a connection', () => {
  test('a peer that says nothing is asked once, and given up after twice the idle time', () => {
    const { loop, connection, ends, pings } = openConnection(null);
    loop.run(IDLE_PING_MS * 2 - 1);
    expect(connection.isOpen).toBe(true);
    loop.run(2);
    expect(connection.isOpen).toBe(false);
    expect(ends.map((error) => error?.code)).toEqual(['connection-lost']);
    expect(pings()).toBe(1);
  });

  test.each([
    { others: 'run', answersAfterMsMax: IDLE_PING_MS - 2 },
    { others: 'stand still', answersAfterMsMax: IDLE_PING_MS / 2 },
  ] as const)(
    'this side stands still, whenever and however long, and the others $others: its peer answers and is not given up',
    ({ others, answersAfterMsMax }) => {
      for (const answersAfterMs of [0, IDLE_PING_MS / 4, answersAfterMsMax]) {
        for (const stillMs of [IDLE_PING_MS / 2, IDLE_PING_MS, IDLE_PING_MS * 2, IDLE_PING_MS * 50]) {
          for (let atMs = 0; atMs <= IDLE_PING_MS * 2; atMs++) {
            const { loop, connection, pings } = openConnection(answersAfterMs);
            loop.run(atMs);
            loop.standStill(stillMs, others);
            loop.run(IDLE_PING_MS * 4);
            expect({ stillMs, atMs, open: connection.isOpen }).toEqual({ stillMs, atMs, open: true });
            expect(pings()).toBeGreaterThan(1);
          }
        }
      }
    },
  );

  test('this side stands still again and again: its peer answers and is not given up', () => {
    const { loop, connection, pings } = openConnection(0);
    for (let i = 0; i < 100; i++) loop.standStill(IDLE_PING_MS * (1 + (i % 7)), 'stand still');
    expect(connection.isOpen).toBe(true);
    expect(pings()).toBeGreaterThan(10);
  });

  test('this side stands still: a peer that says nothing is given up all the same', () => {
    for (let atMs = 0; atMs < IDLE_PING_MS * 2; atMs++) {
      const { loop, connection, ends } = openConnection(null);
      loop.run(atMs);
      loop.standStill(IDLE_PING_MS * 50, 'run');
      loop.run(IDLE_PING_MS + 1);
      expect(connection.isOpen).toBe(false);
      expect(ends.map((error) => error?.code)).toEqual(['connection-lost']);
    }
    const { loop, connection } = openConnection(null);
    for (let i = 0; i < 6; i++) loop.standStill(IDLE_PING_MS * 50, 'run');
    expect(connection.isOpen).toBe(false);
  });
});
