import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng } from '#kernel';
import type { DiskCallback, FileSystem } from './file-system.js';
import { LargeFile } from './large-file.js';
import { nodeFileSystem } from './node-file-system.js';
import { DIRECT_BLOCK_BYTES } from './staging-memory.js';
import { MemoryFileSystem } from './testing/memory-file-system.js';
import { SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';
import { unsyncedFileSystem } from './unsynced-file-system.js';

type Until = (condition: () => boolean) => Promise<void>;

const BLOCKS = [1, 5000, DIRECT_BLOCK_BYTES, 3 * DIRECT_BLOCK_BYTES, 100_000, 77];

const patterned = (length: number, seed: number): Buffer => {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((seed + i + (i >>> 8)) % 255);
  return bytes;
};

const ends = async (start: (done: DiskCallback) => void, until: Until): Promise<Error | null> => {
  let outcome: Error | null | undefined;
  start((error) => {
    outcome = error;
  });
  await until(() => outcome !== undefined);
  return outcome!;
};

/** What is appended is what the file has, to the byte, and what is read back; then it is gone. */
const holdsWhatIsAppended = async (fs: FileSystem, path: string, until: Until): Promise<void> => {
  const file = LargeFile.createSync(fs, path);
  const blocks = BLOCKS.map(patterned);
  for (const block of blocks) {
    // It may change as soon as it is written.
    const given = Buffer.from(block);
    expect(await ends((done) => file.append(given, done), until)).toBeNull();
    given.fill(0);
  }
  const whole = Buffer.concat(blocks);
  expect(file.bytes).toBe(whole.length);
  expect(await ends((done) => file.sync(done), until)).toBeNull();
  const pieceBytes = 2 * DIRECT_BLOCK_BYTES;
  const pieces: Buffer[] = [];
  for (let at = 0; at < whole.length; at += pieceBytes) {
    const use = (bytes: Buffer): unknown => pieces.push(Buffer.from(bytes));
    expect(await ends((done) => file.read(at, pieceBytes, use, done), until)).toBeNull();
  }
  expect(Buffer.concat(pieces).equals(whole)).toBe(true);
  file.closeSync();
  const plain = fs.openSync(path, { readOnly: true });
  expect(plain.sizeSync()).toBe(whole.length);
  expect(plain.readSync(whole.length, 0).equals(whole)).toBe(true);
  plain.closeSync();
  expect(() => LargeFile.createSync(fs, path)).toThrow('EEXIST');
  expect(await ends((done) => fs.unlink(path, done), until)).toBeNull();
  expect(fs.existsSync(path)).toBe(false);
  expect((await ends((done) => fs.unlink(path, done), until))?.message).toContain('ENOENT');
};

describe('a large file', () => {
  const stepwise = (): { scheduler: StepScheduler; until: Until } => {
    const scheduler = new StepScheduler();
    const until: Until = (condition) => {
      if (!scheduler.runUntil(condition)) throw new Error('nothing is left to happen');
      return Promise.resolve();
    };
    return { scheduler, until };
  };

  test.each(['done', 'refused-at-open', 'refused-at-write'] as const)(
    'holds what was appended, and is durable when it was synced, direct writes %s',
    async (directWrites) => {
      const { scheduler, until } = stepwise();
      const disk = new SimulatedDisk(scheduler, new SeededRng(1), { directWrites });
      await holdsWhatIsAppended(disk, 'a', until);
      const file = LargeFile.createSync(disk, 'b');
      const bytes = patterned(10_000, 3);
      expect(await ends((done) => file.append(bytes, done), until)).toBeNull();
      disk.syncDirectorySync('');
      expect(disk.durableBytes('b')).toHaveLength(0);
      expect(await ends((done) => file.sync(done), until)).toBeNull();
      expect(disk.durableBytes('b')).toEqual(bytes);
      file.closeSync();
      expect(disk.openFiles).toBe(0);
    },
  );

  test('says what goes wrong', async () => {
    const { scheduler, until } = stepwise();
    const disk = new SimulatedDisk(scheduler, new SeededRng(1));
    const file = LargeFile.createSync(disk, 'a');
    const bytes = patterned(5000, 1);
    disk.failNextWrite('EIO');
    expect((await ends((done) => file.append(bytes, done), until))?.message).toContain('EIO');
    expect(file.bytes).toBe(0);
    expect(await ends((done) => file.append(bytes, done), until)).toBeNull();
    disk.failNextSync('EIO');
    expect((await ends((done) => file.sync(done), until))?.message).toContain('EIO');
    disk.failNextRead('EIO');
    let given = 0;
    const use = (): unknown => given++;
    expect((await ends((done) => file.read(0, DIRECT_BLOCK_BYTES, use, done), until))?.message).toContain('EIO');
    expect(given).toBe(0);
    // What was lent for it has come back.
    expect(await ends((done) => file.read(0, DIRECT_BLOCK_BYTES, use, done), until)).toBeNull();
    expect(given).toBe(1);
    file.closeSync();
  });

  test('holds what was appended on a file system that knows no direct writes', async () => {
    const { scheduler, until } = stepwise();
    await holdsWhatIsAppended(new MemoryFileSystem(scheduler), 'a', until);
  });

  describe('on this machine', () => {
    let directory = '';
    beforeEach(() => {
      directory = mkdtempSync(`${tmpdir()}/tideline-large-file-`);
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    test.each([
      ['synced', nodeFileSystem],
      ['unsynced', unsyncedFileSystem(nodeFileSystem)],
    ] as const)('holds what was appended, %s', async (_, fs) => {
      await holdsWhatIsAppended(fs, `${directory}/a`, async (condition) => {
        while (!condition()) await new Promise((resolve) => setImmediate(resolve));
      });
    });
  });
});
