import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeCondition, decodeOp, encodeConditionalOp, encodeOp } from './op-v1.js';
import { idempotencySession, isIdempotencyKey, sessionTableKey } from './session.js';

test('an idempotency key becomes two safe numbers, always the same, never taken for a session', () => {
  fc.assert(
    fc.property(fc.string(), (key) => {
      const session = idempotencySession(key);
      expect(Number.isSafeInteger(session.low) && Number.isSafeInteger(session.high)).toBe(true);
      expect(isIdempotencyKey(session.high)).toBe(true);
      expect(session).toEqual(idempotencySession(key));
      expect(session.sequence).toBe(1);
    }),
  );
});

test('different idempotency keys get different table keys', () => {
  const keys = new Set<number | string>();
  for (let i = 0; i < 10_000; i++) {
    const { low, high } = idempotencySession(`key ${i}`);
    keys.add(sessionTableKey(low, high));
  }
  expect(keys.size).toBe(10_000);
});

test('a session is its own table key', () => {
  expect(sessionTableKey(42, 0)).toBe(42);
  expect(sessionTableKey(42, 1)).toHaveLength(16);
});

test('an op is read back as it was', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.array(fc.uint8Array({ maxLength: 300 })), (name, args) => {
      const op = decodeOp(encodeOp(name, args));
      expect(op.name).toBe(name);
      expect(op.args.map((arg) => [...arg])).toEqual(args.map((arg) => [...arg]));
    }),
  );
});

test('a condition is read back as it was', () => {
  for (const condition of [{ kind: 'absent' }, { kind: 'present' }, { kind: 'offset', offset: 2 ** 40 }] as const) {
    expect(decodeCondition(decodeOp(encodeConditionalOp('put-if', condition)).args[0])).toEqual(condition);
  }
});

test('an op of a later version is refused', () => {
  expect(() => decodeOp(Buffer.from([2, 0, 0]))).toThrow(expect.objectContaining({ code: 'unsupported-version' }));
});
