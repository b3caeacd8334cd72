import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { pathToFileURL } from 'node:url';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ByteWriter, SeededRng, asGroupId, asNodeId, writeU32 } from '#kernel';
import { DIRECTORY_VERSION, openDataDirectory, type DataDirectory, type OpenDataDirectory } from './data-directory.js';
import type { FileSystem } from './file-system.js';
import { nodeFileSystem } from './node-file-system.js';
import { MemoryFileSystem } from './testing/memory-file-system.js';
import { DiskDown, SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';
import { verifyDataDirectory } from './verify.js';

describe('a data directory', () => {
  let fs: FileSystem;

  const open = (request: Partial<OpenDataDirectory> = {}): DataDirectory =>
    openDataDirectory({ fs, directory: 'var/data', nodeId: asNodeId(1), clusterId: null, ...request });

  beforeEach(() => {
    fs = new MemoryFileSystem();
  });

  test('is created with all its parents and remembers whose it is', () => {
    const first = open({ clusterVoters: [asNodeId(1), asNodeId(2)] });
    expect(first).toMatchObject({ nodeId: 1, clusterId: null, isNew: true, clusterVoters: [1, 2] });
    first.close();
    const again = open({ clusterVoters: [asNodeId(3)] });
    expect(again).toMatchObject({ nodeId: 1, clusterId: null, isNew: false, clusterVoters: [1, 2] });
    again.close();
  });

  test('may appear while it is being created', () => {
    const directories = fs;
    fs = new Proxy(directories, {
      get(target, name) {
        if (name === 'mkdirSync') {
          return (path: string) => {
            target.mkdirSync(path);
            throw Object.assign(new Error(`EEXIST: file already exists, mkdir '${path}'`), { code: 'EEXIST' });
          };
        }
        const member: unknown = Reflect.get(target, name);
        return typeof member === 'function' ? (member.bind(target) as unknown) : member;
      },
    });
    const first = open();
    expect(first.isNew).toBe(true);
    first.close();
  });

  test('that cannot be created is refused', () => {
    fs.mkdirSync = () => {
      throw new Error('EROFS: read-only file system');
    };
    expect(() => open()).toThrow(/read-only file system/);
  });

  test('settles its cluster id once, and for good', () => {
    const directory = open();
    directory.settleClusterId('alpha');
    directory.settleClusterId('alpha');
    expect(directory.clusterId).toBe('alpha');
    expect(() => directory.settleClusterId('beta')).toThrow('belongs to cluster alpha, not beta');
    directory.close();
    const again = open();
    expect(again.clusterId).toBe('alpha');
    again.close();
    expect(() => open({ clusterId: 'beta' })).toThrow(expect.objectContaining({ code: 'directory-foreign' }));
    const third = open({ clusterId: 'alpha' });
    third.close();
    expect(() => open({ clusterId: 'no such id!' })).toThrow(expect.objectContaining({ code: 'bad-option' }));
  });

  test('of another node is refused, and not kept locked', () => {
    open().close();
    expect(() => open({ nodeId: asNodeId(2) })).toThrow(expect.objectContaining({ code: 'directory-foreign' }));
    open().close();
  });

  test('in use is refused', () => {
    const first = open();
    expect(() => open()).toThrow(expect.objectContaining({ code: 'directory-locked' }));
    expect(verifyDataDirectory(fs, 'var/data')).toMatchObject({ inUse: true, ok: true });
    first.close();
    expect(verifyDataDirectory(fs, 'var/data')).toMatchObject({ inUse: false, ok: true, nodeId: 1, version: 2 });
    open().close();
  });

  test('names the folders of its groups', () => {
    const directory = open();
    expect(directory.groupDirectory(asGroupId(12))).toBe('var/data/group-0000000012');
    expect(directory.groups()).toEqual([]);
    fs.mkdirSync(directory.groupDirectory(asGroupId(12)));
    fs.mkdirSync(directory.groupDirectory(asGroupId(0)));
    expect(directory.groups()).toEqual([0, 12]);
    directory.close();
  });

  test('of another version or with a damaged or missing meta file is left alone', () => {
    open().close();
    const file = fs.openSync('var/data/node.meta', {});
    const bytes = file.readSync(file.sizeSync(), 0);
    file.writeSync(Buffer.from([9]), 8);
    expect(() => open()).toThrow(expect.objectContaining({ code: 'storage-damaged' }));
    expect(verifyDataDirectory(fs, 'var/data').problems).toMatchObject([
      { severity: 'damage', file: 'var/data/node.meta' },
    ]);
    file.writeSync(bytes, 0);
    file.closeSync();
    open().close();
    fs.mkdirSync('var/data/group-0000000000');
    fs.unlinkSync('var/data/node.meta');
    expect(() => open()).toThrow(expect.objectContaining({ code: 'storage-damaged' }));
  });

  test('remembers for good which directories its peers have', () => {
    const directory = open();
    const [second, third] = [2, 3].map(asNodeId);
    expect(directory.admitPeer(second, 'first of 2')).toBe(true);
    expect(directory.admitPeer(third, 'first of 3')).toBe(true);
    expect(directory.admitPeer(second, 'another of 2')).toBe(false);
    directory.close();
    const again = open();
    expect(again.directoryId).toBe(directory.directoryId);
    expect(again.admitPeer(second, 'another of 2')).toBe(false);
    expect(again.admitPeer(second, 'first of 2')).toBe(true);
    // A program of a time before there were such ids.
    expect(again.admitPeer(second, '')).toBe(true);
    again.close();
    const other = openDataDirectory({ fs, directory: 'var/other', nodeId: second, clusterId: null });
    expect(other.directoryId).not.toBe(again.directoryId);
    other.close();
  });

  test('of version 1 is given an id when it is opened', () => {
    open({ clusterId: 'alpha', clusterVoters: [asNodeId(1), asNodeId(2)] }).close();
    const meta = 'var/data/node.meta';
    const v1 = new ByteWriter(64).u32(0x444e4c54).u32(1).u32(1).string('alpha').varint(2).u32(1).u32(2).u32(0).finish();
    writeU32(v1, v1.length - 4, crc32(v1.subarray(0, v1.length - 4)));
    const file = fs.openSync(meta, {});
    file.truncateSync(0);
    file.writeSync(v1, 0);
    file.closeSync();
    const opened = open({ clusterId: 'alpha' });
    expect(opened).toMatchObject({
      clusterId: 'alpha',
      clusterVoters: [1, 2],
      directoryId: expect.stringMatching(/^\w{32}$/),
    });
    opened.close();
    const again = open();
    expect(again.directoryId).toBe(opened.directoryId);
    again.close();
  });

  test('of a later version is left as it is', () => {
    open().close();
    const file = fs.openSync('var/data/node.meta', {});
    const bytes = file.readSync(file.sizeSync(), 0);
    writeU32(bytes, 4, DIRECTORY_VERSION + 1);
    writeU32(bytes, bytes.length - 4, crc32(bytes.subarray(0, bytes.length - 4)));
    file.writeSync(bytes, 0);
    expect(() => open()).toThrow(expect.objectContaining({ code: 'unsupported-version' }));
    expect(file.readSync(file.sizeSync(), 0).equals(bytes)).toBe(true);
    file.closeSync();
    // And it is not kept locked.
    expect(verifyDataDirectory(fs, 'var/data')).toMatchObject({ inUse: false, ok: false });
  });

  test('is there or not there after a power failure while it is created', () => {
    for (let operation = 1; operation < 12; operation++) {
      const scheduler = new StepScheduler();
      const disk = new SimulatedDisk(scheduler, new SeededRng(operation));
      fs = disk;
      disk.crashAtOperation = operation;
      try {
        open({ clusterId: 'alpha' }).close();
      } catch (error) {
        expect(error).toMatchObject({ code: 'storage-damaged', cause: expect.any(DiskDown) });
      }
      if (!disk.isDown) disk.crash();
      disk.restart();
      const again = open({ clusterId: 'alpha' });
      expect(again.clusterId).toBe('alpha');
      again.close();
    }
  });
});

describe('the lock of a folder on the real disk', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(`${tmpdir()}/tideline-lock-`);
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  test('keeps a second holder out, also within one process, and says who holds it', () => {
    const lock = nodeFileSystem.lockSync(directory);
    expect(() => nodeFileSystem.lockSync(`${directory}/../${directory.split('/').at(-1)}`)).toThrow(
      expect.objectContaining({ code: 'directory-locked', message: expect.stringContaining(`process ${process.pid}`) }),
    );
    lock.release();
    nodeFileSystem.lockSync(directory).release();
  });

  test('does not mind what an earlier holder left behind', () => {
    writeFileSync(`${directory}/lock`, `${process.pid}\nsome-other-start\nhere\n`);
    const lock = nodeFileSystem.lockSync(directory);
    expect(readFileSync(`${directory}/lock`, 'utf8')).toContain(String(process.pid));
    lock.release();
  });

  test('ends with the process that holds it, however that ends', async () => {
    const module = pathToFileURL(`${process.cwd()}/dist/libs/storage/src/directory-lock.js`).href;
    const script =
      `import(${JSON.stringify(module)}).then(({ lockDirectorySync }) => {` +
      `lockDirectorySync(${JSON.stringify(directory)}); console.log('locked'); setInterval(() => {}, 1000); });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    expect(() => nodeFileSystem.lockSync(directory)).toThrow(`process ${child.pid}`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    nodeFileSystem.lockSync(directory).release();
  });
});
