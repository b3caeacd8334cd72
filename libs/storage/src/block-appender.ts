import type { DiskCallback, DiskFile, FileSystem } from './file-system.js';
import type { LoopWrites } from './loop-writes.js';
import { DIRECT_BLOCK_BYTES, type StagingMemory } from './staging-memory.js';

/**
 * Writes, synced unless told, at the end of a file, past the page cache (O_DIRECT) where that is to be had. What is written once and hardly ever read again needs no
 * pages: to find memory for one costs the kernel more than the write itself (measured: 2 to 15 µs for 4 KiB on a virtual machine, where the host
 * has to find it, too; the write 0.8 to 1.1).
 *
 * A direct write is whole blocks from aligned memory. So the bytes of the last block that is not full are kept, and written again in front of
 * what follows; what is behind the data in its last block becomes zero. A crash in the middle leaves of any sector what was there or what was to be
 * there, and of bytes that were durable both are the same.
 *
 *     file     │ block        │ block   data ends ▼    │ zeros …
 *     write                   │ kept ++++++++++ new ++++ zeros │
 *
 * The file must not have anything but zeros behind the data. Reads go through `plain`, a handle of its own: the kernel keeps both the same.
 * A file system that refuses (tmpfs when the file is opened, some with EINVAL when it is written) is written through `plain` as ever.
 */
export class BlockAppender {
  /** The last block up to `end`, when it is not full. */
  private readonly kept = Buffer.alloc(DIRECT_BLOCK_BYTES);
  /** Where `kept` ends; −1: to be read. */
  private end = -1;

  private constructor(
    private readonly plain: DiskFile,
    private direct: DiskFile | null,
    private readonly staging: StagingMemory | null,
    private readonly loopWrites: LoopWrites | null,
  ) {}

  /** `plain`: the same file, opened in the same way; it stays the caller's. Not `synced`, writes are durable when that one is synced. */
  static openSync(
    fs: FileSystem,
    plain: DiskFile,
    { synced = true, loopWrites = null }: { readonly synced?: boolean; readonly loopWrites?: LoopWrites | null } = {},
  ): BlockAppender {
    const staging = fs.staging?.() ?? null;
    const direct = staging && openDirectSync(fs, plain.path, { synced });
    return new BlockAppender(plain, direct, staging, loopWrites);
  }

  /** Room is laid out ahead in multiples of this. */
  get blockBytes(): number {
    return this.direct ? DIRECT_BLOCK_BYTES : 1;
  }

  /**
   * Durable when done, if synced. One at a time; the buffers may be let go of only then. `atOnce`: calls back before it returns if the event loop may make
   * this write itself.
   */
  write(buffers: readonly Uint8Array[], position: number, done: DiskCallback, atOnce = false): void {
    if (!this.direct) return this.plain.write(buffers, position, done);
    const kept = position % DIRECT_BLOCK_BYTES;
    if (position !== this.end && kept > 0) {
      const error = this.readKept(kept, position - kept);
      if (error) return done(error);
    }
    this.end = -1;
    let length = kept;
    for (const buffer of buffers) length += buffer.length;
    const rest = { buffers, position, next: 0, within: 0, left: length, at: position - kept, kept };
    if (!atOnce || !this.putAtOnce(rest, done)) this.put(rest, done);
  }

  /** What is before the next write is no longer what was written last. */
  forget(): void {
    this.end = -1;
  }

  closeSync(): void {
    this.direct?.closeSync();
    this.direct = null;
  }

  private readKept(length: number, position: number): Error | null {
    try {
      const bytes = this.plain.readSync(length, position);
      bytes.copy(this.kept);
      return bytes.length === length ? null : failed(`${this.plain.path} ends before ${position + length}`);
    } catch (error) {
      return error as Error;
    }
  }

  /** Writes as much of the rest as fits into a piece of memory, until nothing is left. */
  private put(rest: Rest, done: DiskCallback): void {
    const { loopWrites } = this;
    const began = loopWrites === null ? 0 : loopWrites.nowMs();
    const staging = this.staging!;
    staging.take(rest.left, (memory) => {
      if (!this.direct) {
        staging.give(memory);
        return done(failed(`${this.plain.path} was closed`));
      }
      const { at } = rest;
      const piece = this.stage(memory, rest);
      this.direct.write([piece], at, (error) => {
        loopWrites?.pooledSince(began);
        this.written(error, memory, rest, done);
      });
    });
  }

  /** The same by the event loop itself; false, and nothing done, if that may not be. */
  private putAtOnce(rest: Rest, done: DiskCallback): boolean {
    const { loopWrites } = this;
    if (loopWrites === null || !loopWrites.admits(rest.left)) return false;
    const memory = this.staging!.takeNow(rest.left);
    if (memory === null) return false;
    const direct = this.direct!;
    const { at } = rest;
    const piece = this.stage(memory, rest);
    this.written(
      loopWrites.make(() => direct.writeSync(piece, at)),
      memory,
      rest,
      done,
    );
    return true;
  }

  /** Fills memory with what comes next: whole blocks. */
  private stage(memory: Buffer, rest: Rest): Buffer {
    const filled = this.fill(memory, rest);
    const length = roundUp(filled, DIRECT_BLOCK_BYTES);
    memory.fill(0, filled, length);
    const partial = filled % DIRECT_BLOCK_BYTES;
    memory.copy(this.kept, 0, filled - partial, filled);
    return memory.subarray(0, length);
  }

  private written(error: Error | null, memory: Buffer, rest: Rest, done: DiskCallback): void {
    this.staging!.give(memory);
    if (error && isRefusal(error)) {
      this.closeSync();
      // Nothing of it was written.
      this.plain.write(rest.buffers, rest.position, done);
    } else if (error) done(error);
    else if (rest.left > 0) this.put(rest, done);
    else {
      this.end = rest.at;
      done(null);
    }
  }

  private fill(memory: Buffer, rest: Rest): number {
    let filled = rest.kept;
    this.kept.copy(memory, 0, 0, filled);
    rest.kept = 0;
    while (filled < memory.length && rest.next < rest.buffers.length) {
      const buffer = rest.buffers[rest.next];
      const count = Math.min(buffer.length - rest.within, memory.length - filled);
      memory.set(count === buffer.length ? buffer : buffer.subarray(rest.within, rest.within + count), filled);
      filled += count;
      rest.within += count;
      if (rest.within === buffer.length) {
        rest.next++;
        rest.within = 0;
      }
    }
    rest.left -= filled;
    rest.at += filled;
    return filled;
  }
}

/** What of a write is still to be put. */
interface Rest {
  readonly buffers: readonly Uint8Array[];
  readonly position: number;
  /** The first buffer that is not all there yet, and how much of it is. */
  next: number;
  within: number;
  /** Bytes to go, with what was kept. */
  left: number;
  /** Where the next block goes. */
  at: number;
  /** Bytes of the last block to be put in front. */
  kept: number;
}

const failed = (message: string): Error => Object.assign(new Error(message), { code: 'EIO' });

/** null where the file system does not take direct writes. */
export const openDirectSync = (
  fs: FileSystem,
  path: string,
  options: { readonly synced?: boolean; readonly readOnly?: boolean },
): DiskFile | null => {
  try {
    return fs.openSync(path, { ...options, direct: true });
  } catch (error) {
    if (isRefusal(error as Error)) return null;
    throw error;
  }
};

/** What a kernel says of direct writes that it does not make; it has written nothing then. */
export const isRefusal = (error: Error): boolean => (error as NodeJS.ErrnoException).code === 'EINVAL';

export const roundUp = (position: number, step: number): number => Math.ceil(position / step) * step;
