import { TidelineError, assert, randomBelow, randomChance, type Rng, type Scheduler } from '#kernel';
import type { DiskCallback, DiskFile, FileSystem, OpenOptions } from '../file-system.js';
import { DIRECT_BLOCK_BYTES, StagingMemory } from '../staging-memory.js';
import { diskError, folderOf } from './memory-file-system.js';

/**
 * A disk with a page cache, for simulation. Every file has two images: what programs see, and what survives a crash. A write changes the first;
 * a sync (or a write through a `synced` handle) brings the second up to date. Names have two images, too: creating, renaming and unlinking survive
 * a crash only after the folder was synced.
 *
 * `crash()` is a power failure: what was not synced, including writes in flight, survives by chance, sector by sector; unsynced changes of names
 * survive up to some point in their order, as a journal would have it; a truncation that was not synced may or may not have happened. All
 * handles are dead, callbacks of what was in flight never come, locks are gone. `stop()` is the end of the process alone: nothing is lost.
 *
 * Errors, latencies and stalls come from `faults`, at rates drawn from the rng; what corrupts bytes at rest (`flipBit`, `restoreStalePage`,
 * `misdirect`, `cutShort`, `zero`) is called by the test. Deterministic: same rng, same scheduler, same calls, same disk.
 */
export interface DiskFaults {
  latencyMsMin: number;
  latencyMsMax: number;
  /** Chances per operation, 0 … 1. */
  writeErrorRate: number;
  syncErrorRate: number;
  readErrorRate: number;
  stallRate: number;
  stallMs: number;
  /** What a crash tears at: 512 or 4096. Never less than a sector. */
  tearBytes: 512 | 4096;
  /** Bytes the disk holds; writes beyond it fail with ENOSPC, in the middle of what was to be written. */
  capacityBytes: number;
  /** Writes past the page cache; a file system may refuse them when the file is opened or when it is written. */
  directWrites: 'done' | 'refused-at-open' | 'refused-at-write';
}

/** So little that writes go in pieces and logs wait for each other. */
const STAGING = { smallBytes: 4096, small: 1, largeBytes: 8192, large: 1, zeroBytes: 8192 };

export const NO_FAULTS: DiskFaults = {
  latencyMsMin: 0,
  latencyMsMax: 0,
  writeErrorRate: 0,
  syncErrorRate: 0,
  readErrorRate: 0,
  stallRate: 0,
  stallMs: 0,
  tearBytes: 512,
  capacityBytes: Number.MAX_SAFE_INTEGER,
  directWrites: 'done',
};

/** Mistakes of a disk or driver that the simulator's checkers must catch. */
export interface DiskMutants {
  /** Synced writes return before they are durable. */
  lazySync: boolean;
  /** Syncing a folder does nothing. */
  noDirectorySync: boolean;
  /** A failed write or sync is reported as done (what retrying a failed sync amounts to). */
  hideSyncErrors: boolean;
}

/** Thrown by what is called on a disk that is down, and at the moment it goes down. */
export class DiskDown extends Error {
  constructor() {
    super('the simulated machine is down');
    this.name = 'DiskDown';
  }
}

const PAGE = 4096;
const ZERO_PAGE = Buffer.alloc(PAGE);

interface Write {
  readonly pieces: readonly Uint8Array[];
  readonly position: number;
}

class Inode {
  /** What would be there after a crash. */
  readonly durable = new Map<number, Buffer>();
  durableSize = 0;
  /** Pages changed since; absent means the durable one. */
  readonly dirty = new Map<number, Buffer>();
  size = 0;
  /** Durable pages as they were before their last change. */
  readonly former = new Map<number, Buffer>();
  readonly inFlight = new Set<Write>();

  page(number: number): Buffer {
    return this.dirty.get(number) ?? this.durable.get(number) ?? ZERO_PAGE;
  }

  private writable(number: number): Buffer {
    let page = this.dirty.get(number);
    if (!page) {
      page = Buffer.from(this.page(number));
      this.dirty.set(number, page);
    }
    return page;
  }

  write({ pieces, position }: Write): void {
    let at = position;
    for (const piece of pieces) {
      for (let done = 0; done < piece.length;) {
        const page = this.writable(Math.floor(at / PAGE));
        const within = at % PAGE;
        const count = Math.min(PAGE - within, piece.length - done);
        page.set(piece.subarray(done, done + count), within);
        done += count;
        at += count;
      }
    }
    this.size = Math.max(this.size, at);
  }

  truncate(length: number): void {
    if (length < this.size) {
      const last = Math.floor((this.size - 1) / PAGE);
      for (let number = Math.floor(length / PAGE); number <= last; number++) {
        if (this.dirty.has(number) || this.durable.has(number)) {
          this.writable(number).fill(0, Math.max(0, length - number * PAGE));
        }
      }
    }
    this.size = length;
  }

  read(length: number, position: number): Buffer {
    const end = Math.min(position + length, this.size);
    const bytes = Buffer.alloc(Math.max(0, end - position));
    for (let at = position; at < end;) {
      const within = at % PAGE;
      const count = Math.min(PAGE - within, end - at);
      this.page(Math.floor(at / PAGE)).copy(bytes, at - position, within, within + count);
      at += count;
    }
    return bytes;
  }

  private harden(number: number): void {
    const page = this.dirty.get(number);
    if (!page) return;
    const before = this.durable.get(number);
    if (before) this.former.set(number, before);
    this.durable.set(number, page);
    this.dirty.delete(number);
  }

  sync(): void {
    for (const number of this.dirty.keys()) this.harden(number);
    this.durableSize = this.size;
  }

  /** What O_DSYNC promises: these bytes, and the size needed to read them. */
  syncRange(from: number, to: number): void {
    for (let number = Math.floor(from / PAGE); number * PAGE < to; number++) this.harden(number);
    this.durableSize = Math.max(this.durableSize, Math.min(this.size, to));
  }

  /** The durable image after a power failure. */
  crash(rng: Rng, tearBytes: number): void {
    for (const write of this.inFlight) this.write(write);
    this.inFlight.clear();
    for (const [number, page] of this.dirty) {
      const merged = Buffer.from(this.durable.get(number) ?? ZERO_PAGE);
      for (let at = 0; at < PAGE; at += tearBytes) {
        if (randomChance(rng, 0.5)) page.copy(merged, at, at, at + tearBytes);
      }
      this.durable.set(number, merged);
    }
    this.dirty.clear();
    this.size = this.size === this.durableSize || randomChance(rng, 0.5) ? this.size : this.durableSize;
    this.durableSize = this.size;
    this.former.clear();
    // What lies beyond the end reads as zeros when the file grows again.
    for (const [number, page] of this.durable) {
      if (number * PAGE >= this.size) this.durable.delete(number);
      else if ((number + 1) * PAGE > this.size) page.fill(0, this.size - number * PAGE);
    }
  }
}

type NameChange = { readonly folder: string; readonly apply: (names: Map<string, Inode>) => void };

export class SimulatedDisk implements FileSystem {
  readonly faults: DiskFaults;
  readonly mutants: DiskMutants = { lazySync: false, noDirectorySync: false, hideSyncErrors: false };
  /** Handles that this life has open. */
  openFiles = 0;
  /** Operations that changed something so far. */
  operations = 0;
  /** A synced write has been waited for, within a call, for as long as this; nothing else happens to the process meanwhile. */
  holdsUp: (ms: number) => void = () => undefined;
  /** The machine goes down in the middle of the operation with this number. */
  crashAtOperation: number | null = null;

  private names = new Map<string, Inode>();
  private durableNames = new Map<string, Inode>();
  private changes: NameChange[] = [];
  private readonly directories = new Set<string>(['', '/']);
  private readonly locks = new Set<string>();
  /** Handles and callbacks of an earlier life are dead. */
  private life = 1;
  /** Of this life: what an earlier one lent never comes back. */
  private lent = new StagingMemory((bytes) => new ArrayBuffer(bytes), STAGING);
  private down = false;
  private readonly failNext: { write: string[]; sync: string[]; read: string[] } = { write: [], sync: [], read: [] };

  constructor(
    private readonly scheduler: Scheduler,
    private readonly rng: Rng,
    faults: Partial<DiskFaults> = {},
  ) {
    this.faults = { ...NO_FAULTS, ...faults };
  }

  /* ---- the machine ---- */

  get isDown(): boolean {
    return this.down;
  }

  /** Power failure; the disk is down until `restart()`. */
  crash(): void {
    this.halt();
    // A journal keeps the order of what happened to names: some first part of it survived.
    const survived = randomBelow(this.rng, this.changes.length + 1);
    for (const change of this.changes.slice(0, survived)) change.apply(this.durableNames);
    this.changes = [];
    this.names = new Map(this.durableNames);
    for (const inode of new Set(this.names.values())) inode.crash(this.rng, this.faults.tearBytes);
  }

  /** The process ends, the machine does not: what was written is there, what was in flight may be. */
  stop(): void {
    this.halt();
    for (const inode of this.names.values()) {
      for (const write of inode.inFlight) if (randomChance(this.rng, 0.5)) inode.write(write);
      inode.inFlight.clear();
    }
  }

  private halt(): void {
    this.life++;
    this.lent = new StagingMemory((bytes) => new ArrayBuffer(bytes), STAGING);
    this.openFiles = 0;
    this.down = true;
    this.locks.clear();
    this.crashAtOperation = null;
  }

  restart(): void {
    assert(this.down, 'only what is down is restarted');
    this.down = false;
  }

  /** Everything is gone: a new disk. */
  replace(): void {
    this.halt();
    this.names.clear();
    this.durableNames.clear();
    this.changes = [];
    for (const path of this.directories) if (path !== '' && path !== '/') this.directories.delete(path);
  }

  /* ---- faults at rest, on both images ---- */

  failNextWrite(code: string): void {
    this.failNext.write.push(code);
  }

  failNextSync(code: string): void {
    this.failNext.sync.push(code);
  }

  failNextRead(code: string): void {
    this.failNext.read.push(code);
  }

  /** What was to fail next does not. */
  forgetFailures(): void {
    for (const codes of Object.values(this.failNext)) codes.length = 0;
  }

  flipBit(path: string, position: number, bit: number): void {
    this.alter(path, position, 1, (bytes) => {
      bytes[0] ^= 1 << bit;
    });
  }

  zero(path: string, position: number, length: number): void {
    this.alter(path, position, length, (bytes) => bytes.fill(0));
  }

  /** The bytes of one place turn up at another, as after a write to the wrong address. */
  misdirect(from: { path: string; position: number }, to: { path: string; position: number }, length: number): void {
    const bytes = this.inode(from.path).read(length, from.position);
    this.alter(to.path, to.position, bytes.length, (target) => target.set(bytes));
  }

  /** A 4 KiB page reads as it was before its last change, as if that write had been lost. Returns false when it never changed. */
  restoreStalePage(path: string, number: number): boolean {
    const inode = this.inode(path);
    const former = inode.former.get(number) ?? (inode.durable.has(number) ? ZERO_PAGE : null);
    if (!former) return false;
    inode.dirty.delete(number);
    inode.durable.set(number, Buffer.from(former));
    return true;
  }

  /** The file loses its end. */
  cutShort(path: string, length: number): void {
    const inode = this.inode(path);
    inode.truncate(length);
    inode.sync();
  }

  /** The file is gone. */
  lose(path: string): void {
    this.inode(path);
    this.names.delete(path);
    this.durableNames.delete(path);
  }

  private alter(path: string, position: number, length: number, change: (bytes: Buffer) => void): void {
    const inode = this.inode(path);
    const { size } = inode;
    assert(position + length <= size, `${path} has ${size} bytes`);
    const bytes = inode.read(length, position);
    change(bytes);
    inode.write({ pieces: [bytes], position });
    inode.syncRange(position, position + length);
  }

  private inode(path: string): Inode {
    const inode = this.names.get(path);
    if (!inode) throw diskError('ENOENT', path);
    return inode;
  }

  /* ---- what checkers look at ---- */

  /** What a crash right now is sure to leave of the file; null when its name is not durable. */
  durableBytes(path: string): Buffer | null {
    const inode = this.durableNames.get(path);
    if (!inode) return null;
    const bytes = Buffer.alloc(inode.durableSize);
    for (const [number, page] of inode.durable) {
      if (number * PAGE < bytes.length)
        page.copy(bytes, number * PAGE, 0, Math.min(PAGE, bytes.length - number * PAGE));
    }
    return bytes;
  }

  /** What programs see of the file. */
  contents(path: string): Buffer {
    const inode = this.inode(path);
    return inode.read(inode.size, 0);
  }

  /** A file of the same length takes its place, on both images. */
  overwrite(path: string, bytes: Buffer): void {
    this.alter(path, 0, bytes.length, (target) => target.set(bytes));
  }

  /** Paths of all files, sorted. */
  files(): string[] {
    return [...this.names.keys()].sort();
  }

  get usedBytes(): number {
    let bytes = 0;
    for (const inode of this.names.values()) bytes += inode.size;
    return bytes;
  }

  /* ---- FileSystem ---- */

  /** Counts an operation; returns true when the machine goes down in the middle of it (the caller then leaves it half done). */
  private counts(): boolean {
    if (this.down) throw new DiskDown();
    this.operations++;
    return this.crashAtOperation !== null && this.operations >= this.crashAtOperation;
  }

  private goDown(): never {
    this.crash();
    throw new DiskDown();
  }

  private latency(): number {
    const { latencyMsMin, latencyMsMax, stallRate, stallMs } = this.faults;
    const spread = latencyMsMax - latencyMsMin;
    const usual = latencyMsMin + (spread > 0 ? (randomBelow(this.rng, 1000) / 1000) * spread : 0);
    return stallRate > 0 && randomChance(this.rng, stallRate) ? usual + stallMs : usual;
  }

  private later(task: () => void): void {
    const { life } = this;
    const delay = this.latency();
    const run = (): void => {
      if (this.life === life) task();
    };
    if (delay > 0) this.scheduler.after(delay, run);
    else this.scheduler.defer(run);
  }

  private drawError(kind: 'write' | 'sync' | 'read', path: string): Error | null {
    const rate = {
      write: this.faults.writeErrorRate,
      sync: this.faults.syncErrorRate,
      read: this.faults.readErrorRate,
    }[kind];
    const code = this.failNext[kind].shift() ?? (rate > 0 && randomChance(this.rng, rate) ? 'EIO' : undefined);
    return code === undefined ? null : diskError(code, `${kind} of ${path}`);
  }

  /** With the mutant an error of a write or sync is not told: what the retry after it would say. Nothing became durable all the same. */
  private told(error: Error | null): Error | null {
    return this.mutants.hideSyncErrors ? null : error;
  }

  /** How much of a write there is room for. */
  private room(inode: Inode, { pieces, position }: Write): { fits: Write; error: Error | null } {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const grows = position + length - inode.size;
    const free = this.faults.capacityBytes - this.usedBytes;
    if (grows <= 0 || grows <= free) return { fits: { pieces, position }, error: null };
    const fitting = Buffer.concat(pieces).subarray(0, Math.max(0, length - (grows - Math.max(0, free))));
    return { fits: { pieces: [fitting], position }, error: diskError('ENOSPC', 'no space left on the simulated disk') };
  }

  openSync(path: string, options: OpenOptions): DiskFile {
    if (this.down) throw new DiskDown();
    const { directWrites } = this.faults;
    if (options.direct && directWrites === 'refused-at-open') throw diskError('EINVAL', `no direct writes of ${path}`);
    let inode = this.names.get(path);
    if (inode && options.create && options.exclusive) throw diskError('EEXIST', path);
    if (!inode) {
      if (!options.create || !this.directories.has(folderOf(path))) throw diskError('ENOENT', path);
      if (this.counts()) this.goDown();
      inode = new Inode();
      const created = inode;
      this.change(path, (names) => names.set(path, created));
    }
    return this.handle(path, inode, options);
  }

  private handle(path: string, inode: Inode, options: OpenOptions): DiskFile {
    const { life } = this;
    this.openFiles++;
    let open = true;
    let writing = false;
    const durable = options.synced === true && !this.mutants.lazySync;
    const check = (writes: boolean): void => {
      if (this.life !== life) throw new DiskDown();
      if (!open) throw diskError('EBADF', `${path} is closed`);
      if (writes && options.readOnly) throw diskError('EBADF', `${path} is open for reading only`);
    };
    const finishWrite = (write: Write): Error | null => {
      const error = this.drawError('write', path);
      // A failed write may have left anything.
      if (error && !this.mutants.hideSyncErrors && randomChance(this.rng, 0.5)) return error;
      const { fits, error: full } = this.room(inode, write);
      inode.write(fits);
      const end = fits.position + fits.pieces.reduce((sum, piece) => sum + piece.length, 0);
      if (durable && !error && !full) inode.syncRange(fits.position, end);
      return this.told(error) ?? full;
    };
    const finishSync = (): Error | null => {
      const error = this.drawError('sync', path);
      if (!error && !this.mutants.lazySync) inode.sync();
      return this.told(error);
    };
    return {
      path,
      write: (buffers: readonly Uint8Array[], position: number, done: DiskCallback) => {
        check(true);
        assert(!writing, `one write of ${path} is in flight`);
        const write = { pieces: [...buffers], position };
        if (options.direct) {
          assert(isWholeBlocks(write), 'a direct write is whole blocks from aligned memory');
          if (this.faults.directWrites === 'refused-at-write') {
            return this.later(() => done(diskError('EINVAL', `no direct writes of ${path}`)));
          }
        }
        inode.inFlight.add(write);
        if (this.counts()) {
          this.crash();
          return;
        }
        writing = true;
        this.later(() => {
          inode.inFlight.delete(write);
          writing = false;
          done(finishWrite(write));
        });
      },
      read: (length, position, done) => {
        check(false);
        this.later(() => {
          const error = this.drawError('read', path);
          done(error, error ? Buffer.alloc(0) : inode.read(length, position));
        });
      },
      readInto: (memory, position, done) => {
        check(false);
        if (options.direct) assert(isWholeBlocks({ pieces: [memory], position }), 'a direct read is whole blocks');
        this.later(() => {
          const error = this.drawError('read', path);
          done(error, error ? 0 : inode.read(memory.length, position).copy(memory));
        });
      },
      sync: (done: DiskCallback) => {
        check(false);
        if (this.counts()) {
          this.crash();
          return;
        }
        this.later(() => done(finishSync()));
      },
      readSync: (length, position) => {
        check(false);
        const error = this.drawError('read', path);
        if (error) throw error;
        return inode.read(length, position);
      },
      writeSync: (bytes, position) => {
        check(true);
        const write = { pieces: [bytes], position };
        if (options.direct) {
          assert(!writing, `one write of ${path} is in flight`);
          assert(isWholeBlocks(write), 'a direct write is whole blocks from aligned memory');
          if (this.faults.directWrites === 'refused-at-write') throw diskError('EINVAL', `no direct writes of ${path}`);
        }
        if (this.counts()) {
          inode.inFlight.add(write);
          this.goDown();
        }
        if (options.synced) this.holdsUp(this.latency());
        const error = finishWrite(write);
        if (error) throw error;
      },
      syncSync: () => {
        check(false);
        if (this.counts()) this.goDown();
        const error = finishSync();
        if (error) throw error;
      },
      truncateSync: (length) => {
        check(true);
        inode.truncate(length);
        if (this.counts()) this.goDown();
      },
      sizeSync: () => {
        check(false);
        return inode.size;
      },
      closeSync: () => {
        if (this.life !== life) return;
        check(false);
        open = false;
        this.openFiles--;
      },
    };
  }

  private change(path: string, apply: (names: Map<string, Inode>) => void): void {
    apply(this.names);
    this.changes.push({ folder: folderOf(path), apply });
  }

  existsSync(path: string): boolean {
    if (this.down) throw new DiskDown();
    return this.names.has(path) || this.directories.has(path);
  }

  /** Folders survive crashes: losing one is losing its files, which `lose` does. */
  mkdirSync(path: string): void {
    if (this.down) throw new DiskDown();
    if (this.existsSync(path)) throw diskError('EEXIST', path);
    if (!this.directories.has(folderOf(path))) throw diskError('ENOENT', path);
    this.directories.add(path);
  }

  readdirSync(path: string): string[] {
    if (this.down) throw new DiskDown();
    if (!this.directories.has(path)) throw diskError('ENOENT', path);
    return [...this.names.keys(), ...this.directories]
      .filter((name) => name !== path && name !== '' && name !== '/' && folderOf(name) === path)
      .map((name) => name.slice(name.lastIndexOf('/') + 1))
      .sort();
  }

  renameSync(from: string, to: string): void {
    if (this.counts()) this.goDown();
    const inode = this.inode(from);
    this.change(to, (names) => {
      names.delete(from);
      names.set(to, inode);
    });
  }

  unlinkSync(path: string): void {
    if (this.counts()) this.goDown();
    this.inode(path);
    this.change(path, (names) => names.delete(path));
  }

  unlink(path: string, done: DiskCallback): void {
    if (this.down) throw new DiskDown();
    this.later(() => {
      if (!this.names.has(path)) return done(diskError('ENOENT', path));
      if (this.counts()) {
        this.crash();
        return;
      }
      this.change(path, (names) => names.delete(path));
      done(null);
    });
  }

  syncDirectorySync(path: string): void {
    if (this.counts()) this.goDown();
    if (this.mutants.noDirectorySync) return;
    const rest: NameChange[] = [];
    for (const change of this.changes) {
      if (change.folder === path) change.apply(this.durableNames);
      else rest.push(change);
    }
    this.changes = rest;
  }

  freeBytesSync(): number {
    return Math.max(0, this.faults.capacityBytes - this.usedBytes);
  }

  staging(): StagingMemory {
    return this.lent;
  }

  lockSync(path: string): { release(): void } {
    if (this.down) throw new DiskDown();
    if (this.locks.has(path)) throw new TidelineError('directory-locked', `${path} is in use`);
    this.locks.add(path);
    return { release: () => this.locks.delete(path) };
  }
}

const isWholeBlocks = ({ pieces, position }: Write): boolean =>
  position % DIRECT_BLOCK_BYTES === 0 &&
  pieces.every(({ byteOffset, length }) => byteOffset % DIRECT_BLOCK_BYTES === 0 && length % DIRECT_BLOCK_BYTES === 0);
