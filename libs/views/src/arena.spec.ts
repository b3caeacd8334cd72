import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Arena, type ArenaChunk } from './arena.js';

const MIB = 1024 * 1024;

/** Marks every byte that the chunk was asked for. */
const fill = ({ bytes, start }: ArenaChunk, length: number, mark: number): void => {
  bytes.fill(mark, start, start + length);
};
const isFilledWith = ({ bytes, start }: ArenaChunk, length: number, mark: number): boolean =>
  bytes.subarray(start, start + length).every((byte) => byte === mark);

describe('an arena', () => {
  const length = fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: MIB + 200_000 }));
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ does: fc.constant('allocate' as const), length }) },
    { weight: 1, arbitrary: fc.record({ does: fc.constant('own' as const), length }) },
    { weight: 1, arbitrary: fc.record({ does: fc.constant('elsewhere' as const), length }) },
    { weight: 4, arbitrary: fc.record({ does: fc.constant('free' as const), length: fc.nat(1000) }) },
  );

  test('cuts chunks that do not share a byte, however they come and go', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const arena = new Arena();
        const held: { chunk: ArenaChunk; length: number; mark: number }[] = [];
        for (const [n, { does, length: asked }] of steps.entries()) {
          if (does === 'free') {
            const [gone] = held.splice(asked % (held.length || 1), 1);
            if (gone) arena.free(gone.chunk);
          } else {
            const chunk =
              does === 'allocate'
                ? arena.allocate(asked)
                : does === 'own'
                  ? arena.allocateOwn(asked)
                  : arena.allocateElsewhere(asked, held[0]?.chunk.region ?? 0);
            if (chunk === null) continue;
            expect(chunk.length).toBeGreaterThanOrEqual(asked);
            expect(arena.bytes[chunk.region]).toBe(chunk.bytes);
            fill(chunk, asked, n % 251);
            held.push({ chunk, length: asked, mark: n % 251 });
          }
          // Not more is idle than was ever in use.
          expect(arena.idleBytes).toBeGreaterThanOrEqual(0);
        }
        for (const { chunk, length: asked, mark } of held) expect(isFilledWith(chunk, asked, mark)).toBe(true);
        for (const { chunk } of held) arena.free(chunk);
        // One region stays, and of that only what was written to counts.
        expect(arena.bytes.filter(({ length: kept }) => kept > 0).length).toBeLessThanOrEqual(1);
        expect(arena.idleBytes).toBeLessThanOrEqual(4 * MIB);
      }),
      { numRuns: 150 },
    );
  });

  test('takes little for little, and has few regions for much', () => {
    const arena = new Arena();
    arena.allocate(500);
    expect(arena.bytes.map(({ length: bytes }) => bytes)).toEqual([4096]);
    for (let n = 0; n < 128; n++) arena.allocate(MIB);
    expect(arena.bytes.length).toBeLessThan(48);
    expect(Math.max(...arena.bytes.map(({ length: bytes }) => bytes))).toBe(4 * MIB);
  });

  test('gives what was freed to the next, neighbours as one', () => {
    const arena = new Arena();
    const chunks = Array.from({ length: 64 }, () => arena.allocate(64));
    const regions = arena.bytes.length;
    for (const place of [10, 12, 11]) arena.free(chunks[place]);
    const next = arena.allocate(192);
    expect([next.region, next.start]).toEqual([chunks[10].region, chunks[10].start]);
    expect(arena.bytes).toHaveLength(regions);
  });

  test('never writes to the bytes of a region of its own again, whoever has freed it', () => {
    const arena = new Arena();
    const own = arena.allocateOwn(40_000);
    fill(own, 40_000, 7);
    arena.free(own);
    for (let n = 0; n < 20; n++) fill(arena.allocate(40_000), 40_000, 1);
    expect(isFilledWith(own, 40_000, 7)).toBe(true);
  });

  test('says where the chunks of slots are, also after it has taken over another', () => {
    const [arena, other] = [new Arena(), new Arena()];
    arena.place(3, 1, arena.allocate(1000));
    const chunk = other.allocate(1000);
    fill(chunk, 1000, 9);
    chunk.region += arena.absorb(other);
    for (const number of [1, 700]) arena.place(255, number, chunk);
    for (const number of [1, 700]) {
      const at = 2 * (number * 256 + 255);
      expect(arena.bytes[arena.places[at]]).toBe(chunk.bytes);
      expect(arena.places[at + 1]).toBe(chunk.start);
    }
    // It is a region like any other.
    const idle = arena.idleBytes;
    arena.free(chunk);
    expect(arena.idleBytes).toBeGreaterThan(idle);
    expect(() => arena.free(chunk)).toThrow();
    expect(other.idleBytes).toBe(0);
    expect(other.allocate(10).region).toBe(0);
  });

  test('does not take over a region that nothing is in', () => {
    const arena = new Arena();
    for (let round = 0; round < 5; round++) {
      const other = new Arena();
      other.free(other.allocate(1000));
      const kept = other.allocate(3 * MIB);
      kept.region += arena.absorb(other);
      arena.free(kept);
    }
    expect(arena.bytes.filter(({ length: bytes }) => bytes > 0)).toEqual([]);
    expect(arena.idleBytes).toBe(0);
  });

  test('has regions emptied where much is idle, part by part, and does not try again at once when that failed', () => {
    const arena = new Arena();
    const chunks = new Set(Array.from({ length: 64 }, () => arena.allocate(MIB / 2)));
    const regions = (): number => arena.bytes.filter(({ length: bytes }) => bytes > 0).length;
    const freeEvery = (n: number): void => {
      for (const [at, chunk] of [...chunks].entries()) {
        if (at % n !== 0) continue;
        arena.free(chunk);
        chunks.delete(chunk);
      }
    };
    let asked = 0;
    const refuses = (): number => {
      asked++;
      return -1;
    };
    expect(arena.compact(refuses)).toBe(0);
    expect(asked).toBe(0);
    freeEvery(2);
    expect(arena.compact(refuses)).toBe(0);
    expect(arena.compact(refuses)).toBe(0);
    expect(asked).toBe(1);
    freeEvery(2);
    const before = regions();
    const emptied = new Set<number>();
    /** One chunk at a time. */
    const move = (region: number): number => {
      emptied.add(region);
      const chunk = [...chunks].find((one) => one.region === region)!;
      const moved = arena.allocateElsewhere(MIB / 2, region)!;
      // What comes meanwhile is not put where all is about to leave, however much it is.
      const next = Array.from({ length: 80 }, () => arena.allocate(MIB / 4));
      for (const { region: other } of [moved, ...next]) expect(other).not.toBe(region);
      for (const one of next) arena.free(one);
      arena.free(chunk);
      chunks.delete(chunk);
      chunks.add(moved);
      return MIB / 2;
    };
    let moves = 0;
    while (arena.compact(move) > 0) moves++;
    expect(moves).toBeGreaterThan(emptied.size);
    expect(before - regions()).toBeGreaterThan(2);
    expect(arena.idleBytes).toBeLessThan(9 * MIB);
  });
});
