import { TidelineError, systemScheduler, type Scheduler } from '#kernel';
import type { DiskCallback, DiskFile, FileSystem, OpenOptions } from '../file-system.js';

/** An error as node:fs throws it. */
export const diskError = (code: string, what: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${code}: ${what}`), { code });

class MemoryInode {
  bytes = Buffer.alloc(0);
  size = 0;

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    if (end > this.bytes.length) {
      const grown = Buffer.alloc(Math.max(end, this.bytes.length * 2));
      this.bytes.copy(grown, 0, 0, this.size);
      this.bytes = grown;
    }
    this.bytes.set(bytes, position);
    this.size = Math.max(this.size, end);
  }

  truncate(length: number): void {
    if (length < this.size) this.bytes.fill(0, length, this.size);
    else this.write(Buffer.alloc(length - this.size), this.size);
    this.size = length;
  }

  /** A copy, short at the end of the file. */
  read(length: number, position: number): Buffer {
    return Buffer.from(this.bytes.subarray(Math.min(position, this.size), Math.min(position + length, this.size)));
  }
}

/** A file system in memory that never fails. What is written is durable at once; it survives as long as the object. */
export class MemoryFileSystem implements FileSystem {
  private readonly files = new Map<string, MemoryInode>();
  private readonly directories = new Set<string>(['', '/']);
  private readonly locks = new Set<string>();
  /** What `freeBytesSync` answers. */
  freeBytes = 2 ** 40;

  constructor(private readonly scheduler: Scheduler = systemScheduler) {}

  openSync(path: string, options: OpenOptions): DiskFile {
    let inode = this.files.get(path);
    if (inode && options.create && options.exclusive) throw diskError('EEXIST', path);
    if (!inode) {
      if (!options.create || !this.directories.has(folderOf(path))) throw diskError('ENOENT', path);
      inode = new MemoryInode();
      this.files.set(path, inode);
    }
    return this.handle(path, inode, options.readOnly === true);
  }

  private handle(path: string, inode: MemoryInode, readOnly: boolean): DiskFile {
    let open = true;
    const check = (writes: boolean): void => {
      if (!open) throw diskError('EBADF', `${path} is closed`);
      if (writes && readOnly) throw diskError('EBADF', `${path} is open for reading only`);
    };
    const later = (task: () => void): void => this.scheduler.defer(task);
    return {
      path,
      write: (buffers, position, done) => {
        check(true);
        let at = position;
        for (const buffer of buffers) {
          inode.write(buffer, at);
          at += buffer.length;
        }
        later(() => done(null));
      },
      read: (length, position, done) => {
        check(false);
        later(() => done(null, inode.read(length, position)));
      },
      readInto: (memory, position, done) => {
        check(false);
        later(() => done(null, inode.read(memory.length, position).copy(memory)));
      },
      sync: (done) => {
        check(false);
        later(() => done(null));
      },
      readSync: (length, position) => {
        check(false);
        return inode.read(length, position);
      },
      writeSync: (bytes, position) => {
        check(true);
        inode.write(bytes, position);
      },
      syncSync: () => check(false),
      truncateSync: (length) => {
        check(true);
        inode.truncate(length);
      },
      sizeSync: () => {
        check(false);
        return inode.size;
      },
      closeSync: () => {
        check(false);
        open = false;
      },
    };
  }

  existsSync(path: string): boolean {
    return this.files.has(path) || this.directories.has(path);
  }

  mkdirSync(path: string): void {
    if (this.existsSync(path)) throw diskError('EEXIST', path);
    if (!this.directories.has(folderOf(path))) throw diskError('ENOENT', path);
    this.directories.add(path);
  }

  readdirSync(path: string): string[] {
    if (!this.directories.has(path)) throw diskError('ENOENT', path);
    return [...this.files.keys(), ...this.directories]
      .filter((name) => name !== path && name !== '' && folderOf(name) === path)
      .map((name) => name.slice(name.lastIndexOf('/') + 1))
      .filter((name) => name !== '')
      .sort();
  }

  renameSync(from: string, to: string): void {
    const inode = this.files.get(from);
    if (!inode) throw diskError('ENOENT', from);
    this.files.delete(from);
    this.files.set(to, inode);
  }

  unlinkSync(path: string): void {
    if (!this.files.delete(path)) throw diskError('ENOENT', path);
  }

  unlink(path: string, done: DiskCallback): void {
    this.scheduler.defer(() => {
      done(this.files.delete(path) ? null : diskError('ENOENT', path));
    });
  }

  syncDirectorySync(path: string): void {
    if (!this.directories.has(path)) throw diskError('ENOENT', path);
  }

  freeBytesSync(): number {
    return this.freeBytes;
  }

  lockSync(path: string): { release(): void } {
    if (this.locks.has(path)) throw new TidelineError('directory-locked', `${path} is in use`);
    this.locks.add(path);
    return { release: () => this.locks.delete(path) };
  }
}

export const folderOf = (path: string): string => {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? (path.startsWith('/') && path !== '/' ? '/' : '') : path.slice(0, slash);
};
