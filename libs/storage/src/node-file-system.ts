import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  read,
  readSync,
  readdirSync,
  renameSync,
  statfsSync,
  unlink,
  unlinkSync,
  write,
  writeSync,
  writev,
} from 'node:fs';
import { lockDirectorySync } from './directory-lock.js';
import type { DiskCallback, DiskFile, FileSystem, OpenOptions } from './file-system.js';
import { DIRECT_BLOCK_BYTES, StagingMemory, pageAlignedMemory } from './staging-memory.js';

/**
 * The real disk through node:fs. Callbacks run on libuv's pool: UV_THREADPOOL_SIZE is how many files are written at once. A folder is synced
 * through a read-only handle; where the platform has no such thing (Windows) renames are as durable as they are.
 */
class NodeFile implements DiskFile {
  constructor(
    readonly path: string,
    private readonly fd: number,
    /** What a write that came out short goes on at a multiple of. */
    private readonly blockBytes: number,
  ) {}

  write(buffers: readonly Uint8Array[], position: number, done: DiskCallback): void {
    let length = 0;
    for (const buffer of buffers) length += buffer.length;
    const written = (error: NodeJS.ErrnoException | null, count: number): void => {
      if (error) done(error);
      else if (count === length) done(null);
      else {
        const whole = count - (count % this.blockBytes);
        if (whole === 0) done(nothingWritten(this.path));
        else this.write(after(buffers, whole), position + whole, done);
      }
    };
    if (buffers.length === 1) write(this.fd, buffers[0], 0, length, position, written);
    else writev(this.fd, buffers, position, written);
  }

  read(length: number, position: number, done: (error: Error | null, bytes: Buffer) => void): void {
    const bytes = Buffer.allocUnsafe(length);
    read(this.fd, bytes, 0, length, position, (error, count) => {
      done(error, count === length ? bytes : bytes.subarray(0, Math.max(count, 0)));
    });
  }

  readInto(memory: Buffer, position: number, done: (error: Error | null, count: number) => void): void {
    read(this.fd, memory, 0, memory.length, position, done);
  }

  sync(done: DiskCallback): void {
    fdatasync(this.fd, done);
  }

  readSync(length: number, position: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      const count = readSync(this.fd, bytes, filled, length - filled, position + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled === length ? bytes : bytes.subarray(0, filled);
  }

  writeSync(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length;) {
      const count = writeSync(this.fd, bytes, done, bytes.length - done, position + done);
      const whole = done + count === bytes.length ? count : count - (count % this.blockBytes);
      if (whole === 0) throw nothingWritten(this.path);
      done += whole;
    }
  }

  syncSync(): void {
    fdatasyncSync(this.fd);
  }

  truncateSync(length: number): void {
    ftruncateSync(this.fd, length);
  }

  sizeSync(): number {
    return fstatSync(this.fd).size;
  }

  closeSync(): void {
    closeSync(this.fd);
  }
}

const nothingWritten = (path: string): Error =>
  Object.assign(new Error(`nothing was written to ${path}`), { code: 'EIO' });

/** What a short write left over. */
const after = (buffers: readonly Uint8Array[], count: number): Uint8Array[] => {
  const rest: Uint8Array[] = [];
  let skip = count;
  for (const buffer of buffers) {
    if (skip >= buffer.length) skip -= buffer.length;
    else {
      rest.push(skip === 0 ? buffer : buffer.subarray(skip));
      skip = 0;
    }
  }
  return rest;
};

const flagsOf = ({ synced, create, exclusive, readOnly }: OpenOptions): number =>
  (readOnly ? constants.O_RDONLY : constants.O_RDWR) |
  (synced ? (constants.O_DSYNC ?? constants.O_SYNC ?? 0) : 0) |
  (create ? constants.O_CREAT : 0) |
  (create && exclusive ? constants.O_EXCL : 0);

const openNodeFileSync = (path: string, options: OpenOptions): DiskFile => {
  if (!options.direct) return new NodeFile(path, openSync(path, flagsOf(options), FILE_MODE), 1);
  const flag = constants.O_DIRECT ?? 0;
  if (flag === 0) throw Object.assign(new Error('no direct writes on this platform'), { code: 'EINVAL' });
  return new NodeFile(path, openSync(path, flagsOf(options) | flag, FILE_MODE), DIRECT_BLOCK_BYTES);
};

/** Made when it is first asked for; null when it cannot be had. */
let staging: StagingMemory | null | undefined;

const processStaging = (): StagingMemory | null => {
  if (staging === undefined) {
    try {
      staging = constants.O_DIRECT ? new StagingMemory(pageAlignedMemory) : null;
    } catch {
      staging = null;
    }
  }
  return staging;
};

const FILE_MODE = 0o640;
const DIRECTORY_MODE = 0o750;

export const nodeFileSystem: FileSystem = {
  openSync: openNodeFileSync,
  existsSync,
  mkdirSync: (path) => {
    mkdirSync(path, { mode: DIRECTORY_MODE });
  },
  readdirSync: (path) => readdirSync(path).sort(),
  renameSync,
  unlinkSync,
  unlink,
  syncDirectorySync: (path) => {
    if (process.platform === 'win32') return;
    const fd = openSync(path, constants.O_RDONLY);
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  },
  freeBytesSync: (path) => {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  },
  lockSync: lockDirectorySync,
  staging: processStaging,
};
