import { describe, expect, test } from '@jest/globals';
import { checkKey, type Operation, type OperationInput, type OperationOutput } from '../support/linearizability.js';
import { History, sharpened } from './history.js';
import { checkHistory } from './final-checks.js';

const STEPS = 100_000;
const FOREVER = Number.POSITIVE_INFINITY;

const operation = (
  input: OperationInput,
  output: OperationOutput,
  [invokedAt, returnedAt]: readonly [number, number],
): Operation => ({ key: 'k', client: 1, input, output, invokedAt, returnedAt });

const get = (value: string | null, at: readonly [number, number]): Operation =>
  operation({ kind: 'get' }, { kind: 'value', value }, at);
const unknownPut = (value: string, invokedAt: number): Operation =>
  operation({ kind: 'put', value }, { kind: 'unknown' }, [invokedAt, FOREVER]);

describe('a sharpened history', () => {
  test('takes a write of unknown outcome for done when its value was read', () => {
    const history = [unknownPut('a', 0), get('a', [5, 6]), get('a', [3, 4])];
    expect(sharpened(history)[0]).toMatchObject({ output: { kind: 'done' }, returnedAt: 4 });
  });

  test('still finds a value that was read before it was written', () => {
    const history = [get('a', [0, 1]), unknownPut('a', 2)];
    expect(checkKey(sharpened(history), STEPS)).toBe('illegal');
  });

  test('still finds a value that came back', () => {
    const put = operation({ kind: 'put', value: 'b' }, { kind: 'done' }, [3, 4]);
    const history = [unknownPut('a', 0), get('a', [1, 2]), put, get('b', [5, 6]), get('a', [7, 8])];
    expect(checkKey(sharpened(history), STEPS)).toBe('illegal');
  });

  test('leaves out a write nobody saw, but not one that made a condition fail', () => {
    expect(sharpened([unknownPut('a', 0), get(null, [1, 2])])).toHaveLength(1);
    const failed = operation({ kind: 'put-if-absent', value: 'b' }, { kind: 'condition-failed' }, [3, 4]);
    const history = [unknownPut('a', 0), get(null, [1, 2]), failed];
    expect(checkKey(sharpened(history), STEPS)).toBe('linearizable');
    expect(checkKey([history[1], history[2]], STEPS)).toBe('illegal');
  });

  test('keeps a delete of unknown outcome: a missing value shows nobody which delete it was', () => {
    const put = operation({ kind: 'put', value: 'a' }, { kind: 'done' }, [0, 1]);
    const unknownDelete = operation({ kind: 'delete' }, { kind: 'unknown' }, [2, FOREVER]);
    expect(checkKey(sharpened([put, unknownDelete, get(null, [3, 4])]), STEPS)).toBe('linearizable');
  });

  test('needs few steps with many unknown writes, where the plain one needs very many', () => {
    const unknown = Array.from({ length: 40 }, (_, i) => unknownPut(`u${i}`, i));
    const history = [...unknown, ...Array.from({ length: 40 }, (_, i) => get(null, [100 + 2 * i, 101 + 2 * i]))];
    expect(checkKey(history, STEPS)).toBe('undecided');
    expect(checkKey(sharpened(history), STEPS)).toBe('linearizable');
  });
});

test('a value that was refused and read is named', () => {
  const history = new History();
  history.refused.set('ghost', 'k');
  history.add(get('ghost', [0, 1]));
  const findings = checkHistory(history).join('\n');
  expect(findings).toContain('k is not linearizable');
  expect(findings).toContain('ghost was refused and was read');
});
