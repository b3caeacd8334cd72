import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { HEADER_BYTES_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX, TidelineError, asGroupId } from '#kernel';
import { batchRecordCount, batchSequence, batchSessionLow, validateRecords, type RecordInput } from '#wire';
import type { AppendPort, AppendReceipt, AppendTarget } from './append-port.js';
import { BatchingProducer, type ProducerOptions } from './batching-producer.js';
import { FakePartition } from './testing/fake-partition.js';
import { VirtualTime } from './testing/virtual-time.js';

const TARGET = { topic: 'orders', partition: 0 };

interface Held {
  readonly batch: Buffer;
  readonly acks: string;
  readonly timeoutMs: number;
  /** Appends and answers. */
  readonly pass: () => void;
  readonly fail: (error: TidelineError) => void;
}

/** A log behind a port that answers when the test says so. */
class HeldPort implements AppendPort {
  readonly held: Held[] = [];
  readonly seen: Buffer[] = [];
  sessionsOpened = 0;
  openError: TidelineError | null = null;
  automatic = false;
  /** Answers given automatically, by the number of the batch; appends anyway when it says so. */
  script: (index: number) => { readonly error: TidelineError; readonly appends: boolean } | null = () => null;

  constructor(readonly log: FakePartition) {}

  append(
    _target: AppendTarget,
    batch: Buffer,
    options: { readonly acks: 'none' | 'leader' | 'quorum'; readonly timeoutMs: number },
  ): Promise<AppendReceipt> {
    const index = this.seen.push(Buffer.from(batch)) - 1;
    return new Promise((resolve, reject) => {
      const pass = (): void => {
        try {
          resolve(this.log.append(batch));
        } catch (error) {
          reject(error);
        }
      };
      const scripted = this.script(index);
      if (scripted) {
        if (scripted.appends) this.log.append(batch);
        reject(scripted.error);
      } else if (this.automatic) pass();
      else this.held.push({ batch, ...options, pass, fail: reject });
    });
  }

  openSession(): Promise<number> {
    if (this.openError) return Promise.reject(this.openError);
    this.sessionsOpened++;
    return Promise.resolve(this.log.openSession());
  }
}

const setUp = (options: ProducerOptions = {}) => {
  const time = new VirtualTime();
  const log = new FakePartition(asGroupId(1), time);
  const port = new HeldPort(log);
  const producer = new BatchingProducer(port, { clock: time, scheduler: time, ...options });
  const outcomes: string[] = [];
  const send = (value: string, acks: 'none' | 'leader' | 'quorum' = 'quorum'): void =>
    producer.send(TARGET, record(value), acks, (error, receipt, index) => {
      outcomes.push(error ? `${value}: ${error.code}/${error.outcome}` : `${value}@${receipt!.firstOffset + index}`);
    });
  return { time, log, port, producer, outcomes, send };
};

const record = (value: string): RecordInput => ({ key: Buffer.from('k'), value: Buffer.from(value) });
const lost = (): TidelineError => new TidelineError('connection-lost', 'gone');

describe('gathering', () => {
  test('records of one turn are one batch, and each caller hears its own offset', async () => {
    const { time, port, outcomes, send } = setUp();
    for (const value of ['a', 'b', 'c']) send(value);
    await time.settle();
    expect(port.held).toHaveLength(1);
    expect(batchRecordCount(port.held[0].batch)).toBe(3);
    port.held[0].pass();
    await time.settle();
    expect(outcomes).toEqual(['a@3', 'b@4', 'c@5']);
  });

  test('an idle producer sends without waiting for any clock', async () => {
    const { time, port, send } = setUp();
    send('a');
    await time.settle();
    expect(port.held).toHaveLength(1);
    expect(time.monotonicMs()).toBe(0);
    expect(time.pendingTimers).toBe(0);
  });

  test('what comes while a batch is in flight joins the next one', async () => {
    const { time, port, outcomes, send } = setUp();
    send('a');
    await time.settle();
    for (const value of ['b', 'c', 'd']) {
      send(value);
      await time.settle();
    }
    expect(port.held).toHaveLength(1);
    port.held[0].pass();
    await time.settle();
    expect(port.held).toHaveLength(2);
    expect(batchRecordCount(port.held[1].batch)).toBe(3);
    port.held[1].pass();
    await time.settle();
    expect(outcomes.map((outcome) => outcome[0])).toEqual(['a', 'b', 'c', 'd']);
  });

  test('large batches go out beside each other, numbered in order and no more than allowed', async () => {
    const { time, port, send } = setUp({ pipelineBytesMin: 1_000, inflightBatchesMax: 3 });
    for (let i = 0; i < 10; i++) {
      send(`${i}`.repeat(2_000));
      await time.settle();
    }
    expect(port.held.map((held) => batchSequence(held.batch))).toEqual([1, 2, 3]);
    expect(batchRecordCount(port.held[2].batch)).toBe(1);
    port.held[0].pass();
    await time.settle();
    expect(batchRecordCount(port.held[3].batch)).toBe(7);
  });

  test('a batch is sealed before it grows beyond its limit', async () => {
    const { time, port, send } = setUp({ batchBytesMax: 5_000 });
    for (let i = 0; i < 12; i++) send('x'.repeat(1_000));
    await time.settle();
    for (const held of port.held) expect(held.batch.length).toBeLessThanOrEqual(5_000);
    expect(port.held.length).toBeGreaterThanOrEqual(2);
  });

  test('records given together stay together', async () => {
    const { time, port, producer, outcomes } = setUp({ batchBytesMax: 2_000 });
    const many = Array.from({ length: 50 }, (_, i) => record(`${i}`.padStart(100, '.')));
    producer.sendAll(TARGET, [record('first')], 'quorum', () => undefined);
    producer.sendAll(TARGET, many, 'quorum', (_error, receipt, index) => {
      outcomes.push(`${receipt!.firstOffset + index}`);
    });
    port.automatic = true;
    await time.settle();
    expect(port.seen.map((batch) => batchRecordCount(batch))).toEqual([1, 50]);
    expect(outcomes).toEqual(['4']);
  });

  test('weaker acknowledgements have lanes of their own, without a session', async () => {
    const { time, port, send } = setUp();
    send('q');
    send('l', 'leader');
    send('n', 'none');
    await time.settle();
    const byAcks = Object.fromEntries(port.held.map((held) => [held.acks, batchSessionLow(held.batch)]));
    expect(byAcks).toEqual({ quorum: 2, leader: 0, none: 0 });
  });
});

describe('limits', () => {
  test('a full queue says overloaded and takes records again when answers have come', async () => {
    const { time, port, producer, send, outcomes } = setUp({ queuedRecordsMax: 3 });
    for (const value of ['a', 'b', 'c']) send(value);
    expect(() => send('d')).toThrow(expect.objectContaining({ code: 'overloaded', outcome: 'rejected' }));
    await time.settle();
    port.held[0].pass();
    await time.settle();
    send('e');
    await time.settle();
    port.held[1].pass();
    await time.settle();
    expect(outcomes.map((outcome) => outcome[0])).toEqual(['a', 'b', 'c', 'e']);
    expect([producer.pendingRecords, producer.pendingBytes]).toEqual([0, 0]);
  });

  test('bytes are limited too', () => {
    const { send } = setUp({ queuedBytesMax: 1_000 });
    send('x'.repeat(1_000));
    expect(() => send('y')).toThrow(expect.objectContaining({ code: 'overloaded' }));
  });

  test('records that cannot be are refused before they are taken', () => {
    const { producer } = setUp();
    const refused = (input: RecordInput): unknown => {
      try {
        producer.send(TARGET, input, 'quorum', () => undefined);
      } catch (error) {
        return (error as TidelineError).code;
      }
      return null;
    };
    expect(refused({ key: Buffer.alloc(KEY_BYTES_MAX + 1) })).toBe('key-too-large');
    expect(refused({ value: Buffer.alloc(2 * 1024 * 1024) })).toBe('record-too-large');
    expect(refused({ headers: [{ name: 'h', value: Buffer.alloc(20_000) }] })).toBe('record-too-large');
    expect(refused({ value: 'text' as unknown as Uint8Array })).toBe('bad-request');
    for (const timestamp of [-1, 0.5, 2 ** 53]) expect(refused({ timestamp })).toBe('bad-request');
    for (const ttlMs of [-1, 1.5, Number.NaN, 2 ** 53]) expect(refused({ ttlMs })).toBe('bad-request');
    expect(producer.pendingRecords).toBe(0);
  });

  test('what passes here passes the check of the server, at the limits too', async () => {
    const { time, port, producer } = setUp();
    port.automatic = true;
    const records = fc.record(
      {
        key: fc.uint8Array({ maxLength: KEY_BYTES_MAX + 2, size: 'max' }),
        value: fc.oneof(
          fc.uint8Array(),
          fc.integer({ min: RECORD_BYTES_MAX - 200, max: RECORD_BYTES_MAX + 10 }).map((size) => Buffer.alloc(size)),
        ),
        headers: fc.array(
          fc.record({
            name: fc.string(),
            value: fc.oneof(
              fc.uint8Array(),
              fc.integer({ min: HEADER_BYTES_MAX - 40, max: HEADER_BYTES_MAX }).map((size) => Buffer.alloc(size)),
            ),
          }),
          { maxLength: 3 },
        ),
        type: fc.string(),
        ttlMs: fc.oneof(fc.nat(), fc.constantFrom(2 ** 52, 2 ** 52 + 1)),
        timestamp: fc.oneof(fc.nat(), fc.constantFrom(0, 2 ** 52, 2 ** 52 + 1)),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(records, async (input) => {
        const before = port.seen.length;
        try {
          producer.send(TARGET, input, 'quorum', () => undefined);
        } catch (error) {
          expect(error).toBeInstanceOf(TidelineError);
          return;
        }
        await time.settle();
        for (const batch of port.seen.slice(before)) validateRecords(batch);
        port.seen.length = before;
      }),
      { numRuns: 200, seed: 11 },
    );
  });

  test('a record that waits too long to be sent is rejected, not unknown', async () => {
    const { time, port, send, outcomes } = setUp({ timeoutMs: 1_000 });
    send('a');
    await time.settle();
    send('b');
    await time.advance(1_500);
    port.held[0].fail(lost());
    await time.settle();
    expect(outcomes).toEqual(['a: connection-lost/unknown', 'b: overloaded/rejected']);
  });

  test('a batch is given what is left of its time', async () => {
    const { time, port, send } = setUp({ timeoutMs: 1_000 });
    send('a');
    await time.settle();
    send('b');
    await time.advance(400);
    port.held[0].pass();
    await time.settle();
    expect(port.held.map((held) => held.timeoutMs)).toEqual([1_000, 600]);
  });
});

describe('exactly once', () => {
  test('batches of a partition are numbered without a gap in one session', async () => {
    const { time, port, send } = setUp();
    port.automatic = true;
    for (let i = 0; i < 5; i++) {
      send(`${i}`);
      await time.settle();
    }
    expect(port.seen.map((batch) => batchSequence(batch))).toEqual([1, 2, 3, 4, 5]);
    expect(port.sessionsOpened).toBe(1);
  });

  test('an expired session is replaced and nobody notices', async () => {
    const { time, port, log, send, outcomes } = setUp();
    port.automatic = true;
    send('a');
    await time.settle();
    log.expireSessions();
    send('b');
    await time.settle();
    send('c');
    await time.settle();
    expect(log.values).toEqual(['a', 'b', 'c']);
    expect(outcomes.map((outcome) => outcome.split('@')[0])).toEqual(['a', 'b', 'c']);
    expect(port.sessionsOpened).toBe(2);
    expect(port.seen.map((batch) => batchSequence(batch))).toEqual([1, 2, 1, 2]);
  });

  test('several batches of an expired session move to the next in their order', async () => {
    const { time, port, log, send, outcomes } = setUp({ pipelineBytesMin: 1 });
    send('a');
    await time.settle();
    port.held[0].pass();
    await time.settle();
    for (const value of ['b', 'c', 'd']) {
      send(value);
      await time.settle();
    }
    expect(port.held).toHaveLength(4);
    log.expireSessions();
    send('e');
    // Answers arrive in any order.
    for (const at of [3, 1, 2]) port.held[at].pass();
    port.automatic = true;
    await time.settle();
    expect(log.values).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(outcomes.map((outcome) => outcome[0])).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  test('a batch in doubt is unknown, and the ones after it are not appended twice nor lost', async () => {
    const { time, port, log, send, outcomes } = setUp({ pipelineBytesMin: 1 });
    send('a');
    await time.settle();
    send('b');
    await time.settle();
    send('c');
    await time.settle();
    // a: appended or not, nobody knows; b and c found a gap, for certain.
    port.held[0].fail(lost());
    await time.settle();
    port.held[1].fail(new TidelineError('sequence-gap', 'a is missing'));
    await time.settle();
    send('d');
    await time.settle();
    // The old session still has c in flight: nothing may overtake it.
    expect(port.held).toHaveLength(3);
    port.automatic = true;
    port.held[2].fail(new TidelineError('sequence-gap', 'a is missing'));
    await time.settle();
    expect(outcomes[0]).toBe('a: connection-lost/unknown');
    expect(log.values).toEqual(['b', 'c', 'd']);
    expect(port.sessionsOpened).toBe(2);
  });

  test('a session that expires under a batch in doubt reports unknown', async () => {
    const { time, port, send, outcomes } = setUp();
    send('a');
    await time.settle();
    port.held[0].fail(new TidelineError('session-expired', 'gone', { outcome: 'unknown' }));
    await time.settle();
    expect(outcomes).toEqual(['a: session-expired/unknown']);
  });

  test('a number is not used again after its batch was rejected', async () => {
    const { time, port, send } = setUp();
    send('a');
    await time.settle();
    port.held[0].fail(new TidelineError('no-leader', 'nobody'));
    await time.settle();
    send('b');
    await time.settle();
    const [first, second] = port.seen;
    expect(batchSessionLow(second)).not.toBe(batchSessionLow(first));
    expect(batchSequence(second)).toBe(1);
  });

  test('a session that cannot be opened rejects those whose time is over and is tried again for the others', async () => {
    const { time, port, log, send, outcomes } = setUp({ timeoutMs: 1_000 });
    port.automatic = true;
    port.openError = new TidelineError('timeout', 'no answer');
    send('a');
    await time.advance(900);
    expect(outcomes).toEqual([]);
    await time.advance(200);
    expect(outcomes).toEqual(['a: timeout/rejected']);
    send('b');
    await time.settle();
    port.openError = null;
    await time.advance(200);
    expect(log.values).toEqual(['b']);
  });

  test('an unknown topic rejects at once', async () => {
    const { time, port, send, outcomes } = setUp();
    port.openError = new TidelineError('unknown-topic', 'no topic orders');
    send('a');
    await time.settle();
    expect(outcomes).toEqual(['a: unknown-topic/rejected']);
  });

  test('under random answers what is reported is what is in the log, once and in order', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const { time, port, log, producer } = setUp({ pipelineBytesMin: 1, timeoutMs: 5_000 });
      port.automatic = true;
      let state = seed;
      const draw = (below: number): number => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        return (state >>> 8) % below;
      };
      port.script = () => {
        const lot = draw(10);
        if (lot === 0) return { error: lost(), appends: false };
        if (lot === 1) return { error: new TidelineError('no-leader', 'nobody'), appends: false };
        if (lot === 2) log.expireSessions();
        return null;
      };
      const fate = new Map<string, string>();
      for (let i = 0; i < 60; i++) {
        const value = `v${i}`;
        producer.send(TARGET, record(value), 'quorum', (error) => {
          expect(fate.has(value)).toBe(false);
          fate.set(value, error?.outcome ?? 'committed');
        });
        if (draw(3) === 0) await time.settle();
      }
      await time.until(producer.flush());
      const { values } = log;
      expect(new Set(values).size).toBe(values.length);
      expect([...values].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)))).toEqual(values);
      for (const [value, outcome] of fate) {
        if (outcome === 'committed') expect(values).toContain(value);
        if (outcome === 'rejected') expect(values).not.toContain(value);
      }
      expect(fate.size).toBe(60);
    }
  });
});

describe('the end', () => {
  test('close takes no more and waits for what it has', async () => {
    const { time, port, producer, send, outcomes } = setUp();
    send('a');
    const closing = producer.close();
    expect(() => send('b')).toThrow(expect.objectContaining({ code: 'shutting-down' }));
    port.automatic = true;
    await time.until(closing);
    expect(outcomes).toEqual(['a@3']);
  });

  test("one caller's defect is not the next one's", async () => {
    const { time, port, producer, send, outcomes } = setUp();
    port.automatic = true;
    const thrown: unknown[] = [];
    const defer = time.defer.bind(time);
    time.defer = (task) =>
      defer(() => {
        try {
          task();
        } catch (error) {
          thrown.push(error);
        }
      });
    producer.send(TARGET, record('bad'), 'quorum', () => {
      throw new Error('defect');
    });
    send('good');
    await time.settle();
    expect(outcomes).toEqual(['good@4']);
    expect(thrown).toEqual([new Error('defect')]);
  });
});

describe('memory of batches', () => {
  const large = { value: Buffer.alloc(60_000, 7) };

  /** Answers when told to, and says of a batch that it is released if it is to. */
  class ReleasingPort implements AppendPort {
    readonly releasesBatches = true;
    readonly batches: { readonly bytes: Buffer; readonly copy: Buffer; answer: (released: boolean) => void }[] = [];

    constructor(private readonly log: FakePartition) {}

    append(_target: AppendTarget, batch: Buffer, options: { readonly released?: () => void }): Promise<AppendReceipt> {
      return new Promise((resolve) => {
        const copy = Buffer.from(batch);
        const answer = (released: boolean): void => {
          // Until it is released it is what it was.
          expect(batch.equals(copy)).toBe(true);
          if (released) options.released!();
          resolve(this.log.append(Buffer.from(copy)));
        };
        this.batches.push({ bytes: batch, copy, answer });
      });
    }

    openSession(): Promise<number> {
      return Promise.resolve(this.log.openSession());
    }
  }

  const releasing = () => {
    const time = new VirtualTime();
    const port = new ReleasingPort(new FakePartition(asGroupId(1), time));
    const producer = new BatchingProducer(port, { clock: time, scheduler: time });
    const batch = async (): Promise<void> => {
      producer.sendAll(TARGET, [large], 'quorum', () => undefined);
      await time.settle();
    };
    return { port, time, batch };
  };

  test('is used again once the port has released it, and not before', async () => {
    const { port, time, batch } = releasing();
    // From the second batch on they begin with room for one more of their size.
    await batch();
    port.batches.pop()!.answer(false);
    await time.settle();
    await batch();
    await batch();
    expect(port.batches[1].bytes.buffer).not.toBe(port.batches[0].bytes.buffer);
    port.batches[0].answer(true);
    port.batches[1].answer(false);
    await time.settle();
    await batch();
    await batch();
    expect(port.batches.length).toBe(4);
    // What was never said to be released is nobody's any more; the other's memory was free for one of the two.
    const later = [port.batches[2], port.batches[3]].map(({ bytes }) => bytes.buffer);
    expect(later).toContain(port.batches[0].bytes.buffer);
    expect(later).not.toContain(port.batches[1].bytes.buffer);
    for (const { copy } of port.batches) validateRecords(copy);
  });

  test('is left to a port that keeps its batches', async () => {
    const { time, port, producer } = setUp();
    port.automatic = true;
    const seen = new Set<unknown>();
    const { append } = port;
    port.append = (target, batch, options) => {
      seen.add(batch.buffer);
      return append.call(port, target, batch, options);
    };
    for (let n = 1; n <= 5; n++) {
      producer.sendAll(TARGET, [large], 'quorum', () => undefined);
      await time.settle();
    }
    expect(seen.size).toBe(5);
  });
});
