import { describe, expect, test } from '@jest/globals';
import { SeededRng, randomBelow, randomChance } from '#kernel';
import {
  checkKey,
  checkLinearizability,
  type Operation,
  type OperationInput,
  type OperationOutput,
} from './linearizability.js';

const get = (value: string | null, [invokedAt, returnedAt]: [number, number], client = 1): Operation => ({
  key: 'k',
  client,
  input: { kind: 'get' },
  output: { kind: 'value', value },
  invokedAt,
  returnedAt,
});

const put = (value: string, [invokedAt, returnedAt]: [number, number], client = 1): Operation => ({
  key: 'k',
  client,
  input: { kind: 'put', value },
  output: { kind: returnedAt === Number.POSITIVE_INFINITY ? 'unknown' : 'done' },
  invokedAt,
  returnedAt,
});

const STEPS = 100_000;

describe('known histories', () => {
  test('a read after a write sees it', () => {
    expect(checkKey([put('a', [0, 1]), get('a', [2, 3])], STEPS)).toBe('linearizable');
  });

  test('a read after a write that does not see it is illegal', () => {
    expect(checkKey([put('a', [0, 1]), get(null, [2, 3])], STEPS)).toBe('illegal');
  });

  test('a read that overlaps a write may see it or not', () => {
    expect(checkKey([put('a', [0, 10]), get(null, [2, 3])], STEPS)).toBe('linearizable');
    expect(checkKey([put('a', [0, 10]), get('a', [2, 3])], STEPS)).toBe('linearizable');
  });

  test('two reads that see an overlapping write and then do not are illegal', () => {
    expect(checkKey([put('a', [0, 10]), get('a', [1, 2]), get(null, [3, 4])], STEPS)).toBe('illegal');
  });

  test('a write of unknown outcome may take effect late', () => {
    expect(checkKey([put('a', [0, Number.POSITIVE_INFINITY]), get(null, [1, 2]), get('a', [3, 4])], STEPS)).toBe(
      'linearizable',
    );
  });

  test('a write of unknown outcome takes effect at most once', () => {
    const history = [
      put('a', [0, Number.POSITIVE_INFINITY]),
      get('a', [1, 2]),
      put('b', [3, 4]),
      get('b', [5, 6]),
      get('a', [7, 8]),
    ];
    expect(checkKey(history, STEPS)).toBe('illegal');
  });

  test('a value nobody wrote is illegal', () => {
    expect(checkKey([put('a', [0, 1]), get('ghost', [2, 3])], STEPS)).toBe('illegal');
  });

  test('of two conditional writes on an absent key only one may say done', () => {
    const first: Operation = {
      key: 'k',
      client: 1,
      input: { kind: 'put-if-absent', value: 'a' },
      output: { kind: 'done' },
      invokedAt: 0,
      returnedAt: 5,
    };
    const second: Operation = { ...first, client: 2, input: { kind: 'put-if-absent', value: 'b' } };
    expect(checkKey([first, second], STEPS)).toBe('illegal');
    expect(checkKey([first, { ...second, output: { kind: 'condition-failed' } }], STEPS)).toBe('linearizable');
  });

  test('a search that is cut short is undecided, not a pass', () => {
    const history = Array.from({ length: 30 }, (_, i) => put(`v${i}`, [0, 100], i));
    expect(checkKey([...history, get('ghost', [101, 102])], 50)).toBe('undecided');
  });

  test('keys are judged apart and the illegal one is named', () => {
    const verdict = checkLinearizability([put('a', [0, 1]), { ...get(null, [2, 3]), key: 'other' }, get(null, [4, 5])]);
    expect(verdict).toMatchObject({ verdict: 'illegal', key: 'k' });
  });
});

/** Runs clients against one atomic register: each operation takes effect at a moment between its call and its return. */
const legalHistory = (seed: number): Operation[] => {
  const rng = new SeededRng(seed);
  const operations: { operation: Omit<Operation, 'output' | 'returnedAt'>; effectAt: number; returnedAt: number }[] =
    [];
  const clients = 2 + randomBelow(rng, 4);
  for (let client = 0; client < clients; client++) {
    let now = randomBelow(rng, 10);
    for (let i = 0; i < 8; i++) {
      const kinds: OperationInput[] = [
        { kind: 'get' },
        { kind: 'get' },
        { kind: 'put', value: `${client}.${i}` },
        { kind: 'delete' },
        { kind: 'put-if-absent', value: `${client}.${i}` },
      ];
      const input = kinds[randomBelow(rng, kinds.length)];
      const effectAt = now + randomBelow(rng, 20) + rng.nextU32() / 2 ** 33;
      const returnedAt = effectAt + randomBelow(rng, 20);
      operations.push({ operation: { key: 'k', client, input, invokedAt: now }, effectAt, returnedAt });
      now = returnedAt + 1 + randomBelow(rng, 10);
    }
  }
  operations.sort((a, b) => a.effectAt - b.effectAt);
  let state: string | null = null;
  return operations.map(({ operation, returnedAt }) => {
    let output: OperationOutput = { kind: 'done' };
    const { input } = operation;
    const unknown = input.kind !== 'get' && randomChance(rng, 0.1);
    const takesEffect = !unknown || randomChance(rng, 0.5);
    if (input.kind === 'get') output = { kind: 'value', value: state };
    else if (input.kind === 'put-if-absent' && state !== null) output = { kind: 'condition-failed' };
    else if (takesEffect) state = input.kind === 'delete' ? null : input.value;
    return {
      ...operation,
      output: unknown ? { kind: 'unknown' } : output,
      returnedAt: unknown ? Number.POSITIVE_INFINITY : returnedAt,
    };
  });
};

describe('generated histories', () => {
  test('every history of an atomic register is accepted', () => {
    for (let seed = 0; seed < 300; seed++)
      expect([seed, checkKey(legalHistory(seed), STEPS)]).toEqual([seed, 'linearizable']);
  });

  test('a read changed to a value never written is always rejected', () => {
    for (let seed = 0; seed < 300; seed++) {
      const history = legalHistory(seed);
      const at = history.findIndex((operation) => operation.input.kind === 'get');
      if (at < 0) continue;
      history[at] = { ...history[at], output: { kind: 'value', value: 'ghost' } };
      expect([seed, checkKey(history, STEPS)]).toEqual([seed, 'illegal']);
    }
  });

  test('a read moved behind a later acknowledged write of another value is rejected', () => {
    let moved = 0;
    for (let seed = 0; seed < 300; seed++) {
      const history = legalHistory(seed);
      const end = Math.max(
        ...history.map((operation) =>
          operation.returnedAt === Number.POSITIVE_INFINITY ? operation.invokedAt : operation.returnedAt,
        ),
      );
      const stale = history.find(({ output }) => output.kind === 'value' && output.value !== null);
      const uncertain = history.some(({ output }) => output.kind === 'unknown');
      if (!stale || uncertain) continue;
      history.push(put('last', [end + 1, end + 2], 99), {
        ...stale,
        client: 98,
        invokedAt: end + 3,
        returnedAt: end + 4,
      });
      expect([seed, checkKey(history, STEPS)]).toEqual([seed, 'illegal']);
      moved++;
    }
    expect(moved).toBeGreaterThan(20);
  });
});
