import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng, randomBelow, randomChance, type Rng } from '#kernel';
import { BlockAppender } from './block-appender.js';
import type { DiskFile, FileSystem } from './file-system.js';
import { nodeFileSystem } from './node-file-system.js';
import { unsyncedFileSystem } from './unsynced-file-system.js';
import { MemoryFileSystem } from './testing/memory-file-system.js';
import { SimulatedDisk, type DiskFaults } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';

/** No two places of it are alike for long, and none is zero. */
const randomBytes = (rng: Rng, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  const start = randomBelow(rng, 255);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((start + i + (i >>> 8)) % 255);
  return bytes;
};

const LENGTHS = [1, 44, 500, 4052, 4096, 4097, 8192, 20_000];

/** What is written in pieces of any length is what is read, through cuts and new handles; behind it there are zeros. */
const comparesWithModel = async (
  fs: FileSystem,
  path: string,
  rng: Rng,
  until: (condition: () => boolean) => Promise<void>,
): Promise<void> => {
  const plain = fs.openSync(path, { create: true, synced: true });
  let model = randomBytes(rng, 64);
  plain.writeSync(model, 0);
  let appender = BlockAppender.openSync(fs, plain);
  for (let round = 0; round < 40; round++) {
    if (randomChance(rng, 0.1)) {
      appender.closeSync();
      appender = BlockAppender.openSync(fs, plain);
    }
    if (randomChance(rng, 0.2)) {
      model = model.subarray(0, randomBelow(rng, model.length + 1));
      plain.truncateSync(model.length);
      plain.syncSync();
      appender.forget();
    }
    const buffers = Array.from({ length: 1 + randomBelow(rng, 4) }, () =>
      randomBytes(rng, LENGTHS[randomBelow(rng, LENGTHS.length)]),
    );
    let outcome: Error | null | undefined;
    appender.write(buffers, model.length, (error) => {
      outcome = error;
    });
    await until(() => outcome !== undefined);
    expect(outcome).toBeNull();
    model = Buffer.concat([model, ...buffers]);
    const bytes = plain.readSync(plain.sizeSync() + 1, 0);
    expect(bytes.subarray(0, model.length).equals(model)).toBe(true);
    expect(bytes.length - model.length).toBeLessThan(4096);
    expect(bytes.subarray(model.length).equals(Buffer.alloc(bytes.length - model.length))).toBe(true);
  }
  appender.closeSync();
  plain.closeSync();
};

describe('a file that is appended to in whole blocks', () => {
  const simulated = (
    faults: Partial<DiskFaults> = {},
  ): { disk: SimulatedDisk; until: (condition: () => boolean) => Promise<void> } => {
    const scheduler = new StepScheduler();
    const disk = new SimulatedDisk(scheduler, new SeededRng(3), { latencyMsMin: 0.1, latencyMsMax: 1, ...faults });
    const until = (condition: () => boolean): Promise<void> => {
      if (!scheduler.runUntil(condition)) throw new Error('nothing is left to happen');
      return Promise.resolve();
    };
    return { disk, until };
  };

  test.each(['done', 'refused-at-open', 'refused-at-write'] as const)(
    'has what was appended, direct writes %s',
    async (directWrites) => {
      for (let seed = 0; seed < 20; seed++) {
        const { disk, until } = simulated({ directWrites });
        await comparesWithModel(disk, 'a', new SeededRng(seed), until);
      }
    },
  );

  test('has what was appended on a file system that knows no direct writes', async () => {
    const scheduler = new StepScheduler();
    await comparesWithModel(new MemoryFileSystem(scheduler), 'a', new SeededRng(1), (condition) => {
      if (!scheduler.runUntil(condition)) throw new Error('nothing is left to happen');
      return Promise.resolve();
    });
  });

  test('what was durable survives any crash in the middle of the next write', () => {
    for (let seed = 0; seed < 200; seed++) {
      const scheduler = new StepScheduler();
      const rng = new SeededRng(seed);
      const disk = new SimulatedDisk(scheduler, rng, { tearBytes: randomChance(rng, 0.5) ? 512 : 4096 });
      const plain = disk.openSync('a', { create: true, synced: true });
      disk.syncDirectorySync('');
      const appender = BlockAppender.openSync(disk, plain);
      let durable = Buffer.alloc(0);
      let inFlight: Buffer;
      const write = (): void => {
        inFlight = randomBytes(rng, 1 + randomBelow(rng, 6000));
        appender.write([inFlight], durable.length, (error) => {
          expect(error).toBeNull();
          durable = Buffer.concat([durable, inFlight]);
          write();
        });
      };
      disk.crashAtOperation = disk.operations + 2 + randomBelow(rng, 20);
      write();
      scheduler.runUntil(() => disk.isDown);
      expect(disk.isDown).toBe(true);
      disk.restart();
      const bytes = disk.openSync('a', { readOnly: true }).readSync(1 << 20, 0);
      expect(bytes.subarray(0, durable.length).equals(durable)).toBe(true);
    }
  });

  test('fails when the file ends before the place to write at', () => {
    const { disk } = simulated();
    const plain = disk.openSync('a', { create: true, synced: true });
    plain.writeSync(Buffer.alloc(10, 1), 0);
    let outcome: Error | null | undefined;
    BlockAppender.openSync(disk, plain).write([Buffer.from('x')], 20, (error) => {
      outcome = error;
    });
    expect(outcome).toMatchObject({ code: 'EIO' });
  });

  test('tells of a full disk and of an error', async () => {
    const { disk, until } = simulated({ capacityBytes: 8192 });
    const plain = disk.openSync('a', { create: true, synced: true });
    const outcomeOf = async (bytes: number, position: number): Promise<Error | null> => {
      let outcome: Error | null | undefined;
      const appender = BlockAppender.openSync(disk, plain);
      appender.write([Buffer.alloc(bytes, 1)], position, (error) => {
        outcome = error;
      });
      await until(() => outcome !== undefined);
      appender.closeSync();
      return outcome!;
    };
    expect(await outcomeOf(8000, 0)).toBeNull();
    expect(await outcomeOf(1000, 8000)).toMatchObject({ code: 'ENOSPC' });
    disk.faults.capacityBytes = Number.MAX_SAFE_INTEGER;
    disk.failNextWrite('EIO');
    expect(await outcomeOf(1000, 8000)).toMatchObject({ code: 'EIO' });
    expect(await outcomeOf(1000, 8000)).toBeNull();
  });

  test('several files share little memory: one waits for the other, and nothing is mixed up', async () => {
    const { disk, until } = simulated();
    let left = 0;
    const files: DiskFile[] = [];
    for (let i = 0; i < 8; i++) {
      const plain = disk.openSync(`f${i}`, { create: true, synced: true });
      files.push(plain);
      const appender = BlockAppender.openSync(disk, plain);
      const next = (position: number): void => {
        if (position >= 30_000) return void left--;
        appender.write([Buffer.alloc(3000 + 500 * i, i + 1)], position, (error) => {
          expect(error).toBeNull();
          next(position + 3000 + 500 * i);
        });
      };
      left++;
      next(0);
    }
    await until(() => left === 0);
    for (const [i, file] of files.entries()) {
      expect(file.readSync(30_000, 0).equals(Buffer.alloc(30_000, i + 1))).toBe(true);
    }
  });

  describe('on the real disk', () => {
    let directory: string;
    beforeEach(() => {
      directory = mkdtempSync(`${tmpdir()}/tideline-blocks-`);
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    test.each([
      ['synced', nodeFileSystem],
      ['unsynced', unsyncedFileSystem(nodeFileSystem)],
    ] as const)('has what was appended, %s', async (_, fs) => {
      await comparesWithModel(fs, `${directory}/a`, new SeededRng(1), async (condition) => {
        while (!condition()) await new Promise((resolve) => setImmediate(resolve));
      });
    });

    test('what is longer than the memory for it goes in pieces', async () => {
      const plain = nodeFileSystem.openSync(`${directory}/a`, { create: true, synced: true });
      const appender = BlockAppender.openSync(nodeFileSystem, plain);
      const bytes = Buffer.alloc(5 * 1024 * 1024 + 77);
      for (let i = 0; i < bytes.length; i += 13) bytes[i] = i;
      const put = (part: Buffer, position: number): Promise<Error | null> =>
        new Promise((resolve) => appender.write([part], position, resolve));
      expect(await put(bytes.subarray(0, 100), 0)).toBeNull();
      expect(await put(bytes.subarray(100), 100)).toBeNull();
      expect(plain.readSync(bytes.length, 0).equals(bytes)).toBe(true);
      appender.closeSync();
      plain.closeSync();
    });
  });
});
