import { describe, expect, test } from '@jest/globals';
import { ReusedMemory } from './reused-memory.js';

describe('reused memory', () => {
  test('gives back what was given, the newest first, for as much or less', () => {
    const memory = new ReusedMemory();
    const first = memory.take(100_000);
    const second = memory.take(100_000);
    expect(second.buffer).not.toBe(first.buffer);
    memory.give(first.subarray(0, 90_000));
    memory.give(second.subarray(0, 10));
    expect(memory.take(120_000).buffer).toBe(second.buffer);
    expect(memory.take(40_000).buffer).toBe(first.buffer);
    expect(memory.take(100_000).length).toBeGreaterThanOrEqual(100_000);
  });

  test('never hands out less than was asked for', () => {
    const memory = new ReusedMemory();
    memory.give(memory.take(40_000));
    for (const bytes of [10, 32 * 1024, 65_536, 65_537, 3_000_000]) {
      const taken = memory.take(bytes);
      expect(taken.length).toBeGreaterThanOrEqual(bytes);
      memory.give(taken);
    }
  });

  test('keeps no more than its limit, the oldest go', () => {
    const memory = new ReusedMemory();
    const taken = Array.from({ length: 20 }, () => memory.take(1024 * 1024));
    for (const each of taken) memory.give(each);
    const again = Array.from({ length: 20 }, () => memory.take(1024 * 1024).buffer);
    const known = new Set<unknown>(taken.map(({ buffer }) => buffer));
    expect(again.filter((buffer) => known.has(buffer)).length).toBe(8);
    expect(again[0]).toBe(taken[19].buffer);
  });

  test('hands out no memory that others have, too: all under a batch is kept when it is given back', () => {
    const memory = new ReusedMemory();
    for (const bytes of [1, 100, 5000, 40_000]) {
      const taken = memory.take(bytes);
      expect(taken.length).toBe(taken.buffer.byteLength);
    }
  });

  test('does not keep what is small', () => {
    const memory = new ReusedMemory();
    const small = memory.take(100);
    memory.give(small);
    expect(memory.take(50).buffer).not.toBe(small.buffer);
  });
});
