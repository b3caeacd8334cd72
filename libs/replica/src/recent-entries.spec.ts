import { describe, expect, test } from '@jest/globals';
import { asOffset, asTerm } from '#kernel';
import type { Entry } from '#raft';
import { RecentEntries } from './recent-entries.js';

const entry = (firstOffset: number, lastOffset: number, size = 10): Entry => ({
  firstOffset: asOffset(firstOffset),
  lastOffset: asOffset(lastOffset),
  term: asTerm(1),
  kind: 'data',
  bytes: Buffer.alloc(size, firstOffset),
});

const filled = (): RecentEntries => {
  const recent = new RecentEntries();
  recent.append(entry(11, 11));
  recent.append(entry(12, 14));
  recent.append(entry(15, 15));
  return recent;
};

describe('recent entries', () => {
  test('are found by any offset in them', () => {
    const recent = filled();
    expect([10, 11, 12, 13, 14, 15, 16].map((offset) => recent.at(asOffset(offset))?.firstOffset ?? null)).toEqual([
      null,
      11,
      12,
      12,
      12,
      15,
      null,
    ]);
  });

  test('are read from the one that contains the offset, up to a limit, at least one', () => {
    const recent = filled();
    const read = (from: number, to: number, bytesMax: number): number | null =>
      recent.read(asOffset(from), asOffset(to), bytesMax)?.length ?? null;
    expect(read(10, 15, 1000)).toBeNull();
    expect(read(11, 15, 1000)).toBe(30);
    expect(read(13, 15, 1000)).toBe(20);
    expect(read(13, 15, 1)).toBe(10);
    expect(read(11, 15, 25)).toBe(20);
    expect(read(11, 13, 1000)).toBe(10);
    expect(read(12, 13, 1000)).toBe(0);
    expect(recent.read(asOffset(11), asOffset(15), 1000)).toEqual(
      Buffer.concat([Buffer.alloc(10, 11), Buffer.alloc(10, 12), Buffer.alloc(10, 15)]),
    );
  });

  test('are let go from the oldest, but none that is not settled', () => {
    const recent = filled();
    recent.release(asOffset(13), 0);
    expect(recent.at(asOffset(11))).toBeNull();
    expect(recent.at(asOffset(12))).not.toBeNull();
    recent.release(asOffset(15), 10);
    expect(recent.at(asOffset(15))).not.toBeNull();
    expect(recent.byteLength).toBe(10);
  });

  test('end where the log was cut', () => {
    const recent = filled();
    recent.truncateAfter(asOffset(14));
    expect(recent.last?.lastOffset).toBe(14);
    expect(recent.byteLength).toBe(20);
    recent.append(entry(15, 20));
    recent.truncateAfter(asOffset(5));
    expect(recent.isEmpty).toBe(true);
    recent.append(entry(6, 6));
    expect(recent.at(asOffset(6))).not.toBeNull();
  });

  test('stay consistent over thousands', () => {
    const recent = new RecentEntries();
    for (let offset = 1; offset <= 10_000; offset++) {
      recent.append(entry(offset, offset));
      recent.release(asOffset(offset), 1000);
    }
    expect(recent.byteLength).toBe(1000);
    expect(recent.at(asOffset(9900))).toBeNull();
    expect(recent.at(asOffset(9901))?.firstOffset).toBe(9901);
    expect(recent.at(asOffset(10_000))?.firstOffset).toBe(10_000);
  });
});
