import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, asOffset } from '#kernel';
import type { RecordInput } from '#wire';
import { MapView } from '../map-view.js';
import { restoreMapView } from '../map-view-restorer.js';
import { BatchSource } from '../testing/batch-source.js';
import { Apply, View, definitionOf, expiring, type Expiring, type Next } from './definition.js';
import { foldView, type FoldedEvent } from './fold-view.js';
import { PARKED_EVENTS_MAX, Projection, projectionMapOptions } from './projection.js';
import { encodeReplay } from './replay-command.js';
import type { ViewEvent } from './view-event.js';

interface Order {
  readonly status: 'open' | 'paid';
  readonly total: number;
  readonly tags: readonly string[];
}
interface Item {
  readonly price: number;
  readonly tag?: string;
}

@View<Order>({
  topic: 'orders',
  name: 'order-totals',
  version: 1,
  indexes: { status: ({ status }) => status, tag: ({ tags }) => tags },
})
class OrderTotals {
  @Apply('item-added')
  added(order: Order | null, { value }: ViewEvent<Item>): Order {
    if (typeof value.price !== 'number') throw new TypeError('no price');
    const tags = value.tag === undefined ? [] : [value.tag];
    return {
      status: order?.status ?? 'open',
      total: (order?.total ?? 0) + value.price,
      tags: [...new Set([...(order?.tags ?? []), ...tags])],
    };
  }

  @Apply('paid')
  paid(order: Order | null): Next<Order> {
    return order === null ? undefined : expiring({ ...order, status: 'paid' }, 1000);
  }

  @Apply('cancelled')
  cancelled(): null {
    return null;
  }
}

const JSON_HEADERS = [{ name: 'content-type', value: Buffer.from('application/json') }];

const recordOf = ({ type, key, value = null, ttlMs }: FoldedEvent): RecordInput => ({
  key: key === undefined ? null : Buffer.from(key as string),
  value: value === null ? null : Buffer.from(JSON.stringify(value)),
  headers: value === null ? [] : JSON_HEADERS,
  ...(type !== undefined && { type }),
  ...(ttlMs !== undefined && { ttlMs }),
});

const start = (type: new () => object, from?: MapView): Projection => {
  const definition = definitionOf(type);
  const projection = new Projection(definition, from ?? new MapView(projectionMapOptions(definition)), 0);
  for (const _ of projection.buildIndexes());
  return projection;
};

const restarted = (projection: Projection, type: new () => object): Projection =>
  start(type, restoreMapView(projection.map.freeze(), projectionMapOptions(projection.definition)));

const statesOf = (projection: Projection): Map<string, unknown> => {
  const scan = { prefix: Buffer.alloc(0), after: null, limit: 10_000, bytesMax: 1e9, values: true };
  const { entries } = projection.scan({ ...scan, time: projection.logTime });
  return new Map(entries.map(({ key, value }) => [key.toString(), JSON.parse(value.toString()) as unknown]));
};

const keysBy = (projection: Projection, index: string, value: string): string[] =>
  projection
    .lookup({ index, value, after: null, limit: 10_000, bytesMax: 1e9, values: false, time: projection.logTime })
    .entries.map(({ key }) => key.toString());

const add = (key: string, price: unknown, tag?: string): FoldedEvent => ({
  type: 'item-added',
  key,
  value: { price, ...(tag !== undefined && { tag }) },
});

describe('a projection', () => {
  test('makes states of events, and entries of states', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    projection.applyBatches(
      source.records([add('a', 5, 'x'), add('b', 7), add('a', 1, 'y'), { type: 'unheard-of', key: 'c' }].map(recordOf)),
    );
    expect(statesOf(projection)).toEqual(
      new Map([
        ['a', { status: 'open', total: 6, tags: ['x', 'y'] }],
        ['b', { status: 'open', total: 7, tags: [] }],
      ]),
    );
    const entry = projection.get(Buffer.from('a'), projection.logTime)!;
    expect(entry).toMatchObject({ offset: 3, contentType: 'application/json', expiresAt: null });
    expect(projection.offset).toBe(4);
    expect(keysBy(projection, 'tag', 'x')).toEqual(['a']);
    expect(keysBy(projection, 'status', 'open')).toEqual(['a', 'b']);
  });

  test('forgets a state when its time is over, in its indexes too', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    projection.applyBatches(source.records([add('a', 5), { type: 'paid', key: 'a' }, add('b', 1)].map(recordOf)));
    expect(keysBy(projection, 'status', 'paid')).toEqual(['a']);
    source.logTime += 1000;
    projection.applyBatches(source.beacon());
    expect(keysBy(projection, 'status', 'paid')).toEqual([]);
    projection.map.expire({ until: projection.logTime, max: 10 });
    expect(keysBy(projection, 'status', 'open')).toEqual(['b']);
    projection.applyBatches(source.records([recordOf(add('a', 2))]));
    expect(statesOf(projection).get('a')).toEqual({ status: 'open', total: 2, tags: [] });
  });

  test('stops when its time is up and goes on in the middle of a batch', () => {
    const batch = new BatchSource().records(Array.from({ length: 50 }, (_, n) => recordOf(add(`k${n % 7}`, n))));
    const whole = start(OrderTotals);
    whole.applyBatches(batch);
    let sliced = start(OrderTotals);
    let calls = 1;
    while (!sliced.applyWithin(batch, () => true)) {
      if (calls++ === 20) sliced = restarted(sliced, OrderTotals);
    }
    expect(calls).toBe(50);
    expect(sliced.map.digest).toBe(whole.map.digest);
    expect(statesOf(sliced)).toEqual(statesOf(whole));
  });

  test('finds by index in pages of a stable order while states come and go', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    const keys = Array.from({ length: 700 }, (_, n) => `k${String(n).padStart(4, '0')}`);
    projection.applyBatches(source.records(keys.map((key) => recordOf(add(key, 1, `t${Number(key.slice(1)) % 3}`)))));
    const found: string[] = [];
    let after: Buffer | null = null;
    for (let more = true; more;) {
      const page = projection.lookup({
        index: 'tag',
        value: 't1',
        after,
        limit: 100,
        bytesMax: 1e6,
        values: true,
        time: projection.logTime,
      });
      found.push(...page.entries.map(({ key }) => key.toString()));
      after = page.entries.at(-1)!.key;
      ({ more } = page);
      projection.applyBatches(
        source.records([recordOf({ type: 'cancelled', key: 'k0001' }), recordOf(add(`new${found.length}`, 1, 't2'))]),
      );
    }
    expect(found).toEqual(keys.filter((key) => Number(key.slice(1)) % 3 === 1));
    expect(keysBy(projection, 'tag', 't1')).toEqual(found.slice(1));
    expect(keysBy(restarted(projection, OrderTotals), 'tag', 't1')).toEqual(found.slice(1));
    expect(() => keysBy(projection, 'colour', 'red')).toThrow('no index "colour"; there are status, tag');
  });

  test('values that are prefixes of each other, or hold NUL, are different values', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    const tags = ['a', 'a\0', 'a\0\0', 'a\0\u0001', 'ab', ''];
    projection.applyBatches(source.records(tags.map((tag, n) => recordOf(add(`\0k${n}`, 1, tag)))));
    for (const [n, tag] of tags.entries()) expect(keysBy(projection, 'tag', tag)).toEqual([`\0k${n}`]);
  });
});

describe('an event that cannot be applied', () => {
  test('is set aside with its error, and the view goes on', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    projection.applyBatches(
      source.records([add('a', 1), add('a', 'ten'), add('a', 2), { type: 'paid' }].map(recordOf)),
    );
    expect(statesOf(projection).get('a')).toMatchObject({ total: 3 });
    expect(projection.entries).toBe(1);
    const { events, more } = projection.parkedEvents({ after: asOffset(0), limit: 10 });
    expect(more).toBe(false);
    expect(events).toMatchObject([
      { offset: 2, type: 'item-added', error: 'TypeError: no price', attempts: 1, contentType: 'application/json' },
      { offset: 4, type: 'paid', key: null, error: 'TypeError: the event has no key' },
    ]);
    expect(events[0].value!.toString()).toBe('{"price":"ten"}');
    expect(projection.parkedEvents({ after: asOffset(2), limit: 1 }).events).toHaveLength(1);
    expect(projection.get(Buffer.from('\0tideline/parked'), projection.logTime)).toBeNull();
  });

  test('is applied by a logged replay once the code is mended, the same on every host', () => {
    @View<Order>({ topic: 'orders', name: 'order-totals', version: 1 })
    class Mended extends OrderTotals {
      @Apply('item-added')
      override added(order: Order | null, event: ViewEvent<Item>): Order {
        return super.added(order, { ...event, value: { price: Number(event.value.price) } });
      }
    }
    const source = new BatchSource();
    const events = source.records([add('a', 1), add('a', '10'), add('b', '5'), { type: 'paid' }].map(recordOf));
    const failing = start(OrderTotals);
    failing.applyBatches(events);
    expect(failing.parkedCount).toBe(3);
    const hosts = [restarted(failing, Mended), restarted(failing, Mended)];
    const replays = [
      source.records([encodeReplay({ view: 'another', offset: null })]),
      source.records([encodeReplay({ view: 'order-totals', offset: asOffset(2) })]),
      source.records([encodeReplay({ view: 'order-totals', offset: null })]),
    ];
    for (const [n, replay] of replays.entries()) {
      for (const host of hosts) host.applyBatches(replay);
      hosts[1] = restarted(hosts[1], Mended);
      expect(hosts[0].parkedCount).toBe([3, 2, 1][n]);
      expect(hosts[1].map.digest).toBe(hosts[0].map.digest);
    }
    expect(statesOf(hosts[0])).toEqual(statesOf(hosts[1]));
    expect(statesOf(hosts[0]).get('a')).toMatchObject({ total: 11 });
    expect(hosts[0].parkedEvents({ after: asOffset(0), limit: 9 }).events).toMatchObject([{ offset: 4, attempts: 2 }]);
  });

  test('does not make hosts differ whose engines word the error differently', () => {
    let words = 'of this engine';
    @View({ topic: 't', name: 'v', version: 1 })
    class Failing {
      @Apply()
      any(): null {
        throw new Error(words);
      }
    }
    const batch = new BatchSource().records([{ key: Buffer.from('k'), value: Buffer.from('v') }]);
    const one = start(Failing);
    one.applyBatches(batch);
    words = 'of another engine, in more words than that: '.padEnd(900, 'ü');
    const other = start(Failing);
    other.applyBatches(batch);
    expect(other.map.digest).toBe(one.map.digest);
    const [event] = other.parkedEvents({ after: asOffset(0), limit: 1 }).events;
    expect(event.error).toMatch(/^Error: of another engine.*ü$/);
    expect(Buffer.byteLength(event.error)).toBeLessThanOrEqual(512);
  });

  test('stops a view that is to halt, before it, until other code takes over', () => {
    @View({ topic: 't', name: 'v', version: 1, onError: 'halt' })
    class Halting {
      @Apply('bad')
      bad(): null {
        throw new Error('no');
      }
      @Apply()
      any(): number {
        return 1;
      }
    }
    @View({ topic: 't', name: 'v', version: 1 })
    class Mended {
      @Apply()
      any(): number {
        return 1;
      }
    }
    const source = new BatchSource();
    const batch = source.records(
      ['a', 'b', 'c'].map((key) => recordOf({ key, value: 1, ...(key === 'b' && { type: 'bad' }) })),
    );
    const projection = start(Halting);
    expect(projection.applyWithin(batch, () => false)).toBe(true);
    expect([projection.offset, projection.halt]).toEqual([1, { offset: 2, reason: 'Error: no' }]);
    projection.applyBatches(source.beacon());
    expect(projection.offset).toBe(1);
    const again = restarted(projection, Halting);
    again.applyBatches(batch);
    expect(again.halt?.offset).toBe(2);
    const mended = restarted(projection, Mended);
    mended.applyBatches(batch);
    expect([...statesOf(mended).keys()]).toEqual(['a', 'b', 'c']);
  });

  test('halts the view when too many wait already', () => {
    const source = new BatchSource();
    const projection = start(OrderTotals);
    projection.applyBatches(
      source.records(Array.from({ length: PARKED_EVENTS_MAX + 1 }, (_, n) => recordOf(add(`k${n}`, 'x')))),
    );
    expect(projection.parkedCount).toBe(PARKED_EVENTS_MAX);
    expect(projection.halt).toMatchObject({ offset: PARKED_EVENTS_MAX + 1 });
    expect(projection.offset).toBe(PARKED_EVENTS_MAX);
  });
});

test('what is no state is an error and no state', () => {
  const returned: unknown[] = [() => 1, Promise.resolve(1), 'x'.repeat(2 ** 20), expiring(1, 0), expiring(null, 5)];
  let deep: unknown = 1;
  for (let n = 0; n < 65; n++) deep = [deep];
  returned.push(deep);
  @View({ topic: 't', name: 'v', version: 1 })
  class Odd {
    @Apply()
    any(_state: unknown, event: ViewEvent<number>): unknown {
      return returned[event.value];
    }
  }
  const { states, parked } = foldView(
    Odd,
    returned.map((_, n) => ({ key: `k${n}`, value: n })),
  );
  expect(states.size).toBe(0);
  expect(parked.map(({ error }) => error)).toEqual([
    'TypeError: the state is nothing that JSON can say',
    'TypeError: a promise is no state',
    expect.stringContaining('the limit is 1048576'),
    'RangeError: a lifetime of 0 ms',
    'TypeError: the state is nothing that JSON can say',
    'RangeError: the state is nested deeper than 64',
  ]);
});

describe('a class that is no sound projection is refused', () => {
  const refusal = (type: new () => object): string => {
    try {
      definitionOf(type);
      return 'taken';
    } catch (error) {
      return (error as Error).message;
    }
  };

  test('with what is wrong with it', () => {
    class Plain {}
    @View({ topic: 't', name: 'v', version: 0 })
    class NoVersion {
      @Apply()
      any(): null {
        return null;
      }
    }
    @View({ topic: 't', name: 'v', version: 1 })
    class NoMethods {}
    @View({ topic: 't', name: 'a b', version: 1 })
    class BadName {}
    @View({ topic: 't', name: 'v', version: 1 })
    class Async {
      @Apply()
      async any(): Promise<null> {
        return null;
      }
    }
    expect(refusal(Plain)).toBe('class Plain is not marked with @View');
    expect(refusal(NoVersion)).toContain('version is a whole number');
    expect(refusal(NoMethods)).toContain('no method is marked with @Apply');
    expect(refusal(BadName)).toContain('no name for a view');
    expect(refusal(Async)).toContain('neither async nor a generator');
    expect(() => {
      class Twice {
        @Apply('x')
        one(): null {
          return null;
        }
        @Apply('x')
        two(): null {
          return null;
        }
      }
      return Twice;
    }).toThrow('two methods apply "x"');
  });

  test('and one that keeps something to itself fails where it does', () => {
    @View({ topic: 't', name: 'v', version: 1 })
    class Counting {
      count = 0;
      @Apply()
      any(): number {
        return ++this.count;
      }
    }
    expect(foldView(Counting, [{ key: 'a', value: 1 }]).parked).toMatchObject([
      { error: expect.stringContaining('TypeError') },
    ]);
  });
});

describe('a fold', () => {
  test('gives the states of a unit test', () => {
    const { states, lookup, parked } = foldView<Order>(OrderTotals, [
      add('a', 2, 'x'),
      add('b', 3, 'x'),
      { type: 'paid', key: 'a', logTime: 500 },
      { type: 'cancelled', key: 'b' },
    ]);
    expect(states).toEqual(new Map([['a', { status: 'paid', total: 2, tags: ['x'] }]]));
    expect(lookup('status', 'paid')).toEqual(['a']);
    expect(parked).toEqual([]);
    const later = foldView<Order>(OrderTotals, [add('a', 2), { type: 'paid', key: 'a', logTime: 500 }], {
      until: 1500,
    });
    expect(later.states.size).toBe(0);
  });

  test('equals what a host makes of the same events, sliced and restarted as it may be', () => {
    const key = fc.constantFrom('a', 'b', 'c');
    const event: fc.Arbitrary<FoldedEvent> = fc.oneof(
      fc.record({
        type: fc.constant('item-added'),
        key,
        value: fc.record({ price: fc.oneof(fc.nat(9), fc.constant('x')) }),
      }),
      fc.record({ type: fc.constantFrom('paid', 'cancelled', 'else'), key }),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.array(event, { minLength: 1, maxLength: 6 }), fc.nat(700)), {
          minLength: 1,
          maxLength: 12,
        }),
        fc.nat(11),
        (batches, restartAt) => {
          const source = new BatchSource(1000);
          let projection = start(OrderTotals);
          const folded: FoldedEvent[] = [];
          for (const [n, [events, passed]] of batches.entries()) {
            source.logTime += passed;
            folded.push(...events.map((one) => ({ ...one, logTime: source.logTime })));
            const batch = source.records(events.map(recordOf));
            while (!projection.applyWithin(batch, () => true));
            if (n === restartAt) projection = restarted(projection, OrderTotals);
            if (n % 3 === 0) projection.map.expire({ until: projection.logTime, max: 2 });
          }
          const expected = foldView(OrderTotals, folded);
          expect(statesOf(projection)).toEqual(expected.states);
          expect(
            projection.parkedEvents({ after: asOffset(0), limit: 1000 }).events.map(({ offset }) => offset),
          ).toEqual(expected.parked.map(({ offset }) => offset));
          for (const status of ['open', 'paid']) {
            expect(keysBy(projection, 'status', status)).toEqual(expected.lookup('status', status));
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('a projection may key its states otherwise, and pass events over', () => {
  @View<{ count: number }>({
    topic: 't',
    name: 'by-customer',
    version: 1,
    ttlMs: 50,
    key: ({ headers }) => headers['customer'] ?? null,
  })
  class ByCustomer {
    @Apply()
    count(state: { count: number } | null): Expiring<{ count: number }> {
      return expiring({ count: (state?.count ?? 0) + 1 }, null);
    }
  }
  const { states } = foldView(ByCustomer, [
    { key: 'o1', value: 1, headers: { customer: 'c' } },
    { key: 'o2', value: 1, headers: { customer: 'c' } },
    { key: 'o3', value: 1, logTime: asLogTime(1000) },
  ]);
  expect(definitionOf(ByCustomer).rekeyed).toBe(true);
  expect(states).toEqual(new Map([['c', { count: 2 }]]));
});
