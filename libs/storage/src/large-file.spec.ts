import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng } from '#kernel';
import type { DiskCallback, FileSystem } from './file-system.js';
import { LargeFileReader, LargeFileWriter } from './large-file.js';
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
  const writer = LargeFileWriter.createSync(fs, path);
  const blocks = BLOCKS.map(patterned);
  for (const block of blocks) {
    // It may change as soon as it is written.
    const given = Buffer.from(block);
    expect(await ends((done) => writer.append(given, done), until)).toBeNull();
    given.fill(0);
  }
  const whole = Buffer.concat(blocks);
  expect(writer.bytes).toBe(whole.length);
  expect(await ends((done) => writer.sync(done), until)).toBeNull();
  writer.closeSync();
  const reader = LargeFileReader.openSync(fs, path);
  expect(reader.bytes).toBe(whole.length);
  for (const [position, length] of [
    [0, DIRECT_BLOCK_BYTES],
    [0, 100],
    [4095, 2],
    [5000, 20_000],
    [77, 2_000_000],
    [whole.length - 10, 50],
    [whole.length, 50],
  ]) {
    let read = Buffer.alloc(0);
    const use = (bytes: Buffer): void => {
      read = Buffer.from(bytes);
    };
    expect(await ends((done) => reader.read(position, length, use, done), until)).toBeNull();
    expect(read.equals(whole.subarray(position, position + length))).toBe(true);
  }
  reader.closeSync();
  const plain = fs.openSync(path, { readOnly: true });
  expect(plain.sizeSync()).toBe(whole.length);
  expect(plain.readSync(whole.length, 0).equals(whole)).toBe(true);
  plain.closeSync();
  expect(() => LargeFileWriter.createSync(fs, path)).toThrow('EEXIST');
  expect(await ends((done) => fs.unlink(path, done), until)).toBeNull();
  expect(fs.existsSync(path)).toBe(false);
  expect((await ends((done) => fs.unlink(path, done), until))?.message).toContain('ENOENT');
};

/** Reads that wait for each other's memory all get what they asked for. */
const readsAtOnce = async (fs: FileSystem, path: string, until: Until): Promise<void> => {
  const bytes = patterned(40_000, 9);
  const writer = LargeFileWriter.createSync(fs, path);
  expect(await ends((done) => writer.append(bytes, done), until)).toBeNull();
  writer.closeSync();
  const reader = LargeFileReader.openSync(fs, path);
  const found: boolean[] = [];
  for (let at = 0; at < 40_000; at += 5000) {
    const use = (piece: Buffer): unknown => found.push(piece.equals(bytes.subarray(at, at + 5000)));
    reader.read(at, 5000, use, (error) => expect(error).toBeNull());
  }
  await until(() => found.length === 8);
  expect(found).toEqual(Array(8).fill(true));
  reader.closeSync();
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
      await readsAtOnce(disk, 'c', until);
      const file = LargeFileWriter.createSync(disk, 'b');
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
    const file = LargeFileWriter.createSync(disk, 'a');
    const bytes = patterned(5000, 1);
    disk.failNextWrite('EIO');
    expect((await ends((done) => file.append(bytes, done), until))?.message).toContain('EIO');
    expect(file.bytes).toBe(0);
    expect(await ends((done) => file.append(bytes, done), until)).toBeNull();
    disk.failNextSync('EIO');
    expect((await ends((done) => file.sync(done), until))?.message).toContain('EIO');
    file.closeSync();
    const reader = LargeFileReader.openSync(disk, 'a');
    disk.failNextRead('EIO');
    let given = 0;
    const use = (): unknown => given++;
    expect((await ends((done) => reader.read(0, 100, use, done), until))?.message).toContain('EIO');
    expect(given).toBe(0);
    // What was lent for it has come back.
    expect(await ends((done) => reader.read(0, 100, use, done), until)).toBeNull();
    expect(given).toBe(1);
    reader.closeSync();
    expect(() => LargeFileReader.openSync(disk, 'b')).toThrow('ENOENT');
    expect(disk.openFiles).toBe(0);
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
