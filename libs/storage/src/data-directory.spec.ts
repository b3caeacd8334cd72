import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng, asGroupId, asNodeId } from '#kernel';
import { openDataDirectory, type DataDirectory, type OpenDataDirectory } from './data-directory.js';
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
    expect(verifyDataDirectory(fs, 'var/data')).toMatchObject({ inUse: false, ok: true, nodeId: 1, version: 1 });
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
