import { BlockAppender, isRefusal, openDirectSync, roundUp } from './block-appender.js';
import type { DiskCallback, DiskFile, FileSystem } from './file-system.js';
import { DIRECT_BLOCK_BYTES } from './staging-memory.js';

/**
 * A large file that is written once, from front to back, made durable at its end, and read. All goes past the page cache where that is to be had
 * (block-appender.ts): the pages would push others out, to find memory for them costs the kernel several times what the write does, and what is read
 * back from a cache says nothing about the disk.
 */
export class LargeFile {
  private length = 0;

  private constructor(
    private readonly fs: FileSystem,
    private readonly plain: DiskFile,
    private readonly appender: BlockAppender,
    private direct: DiskFile | null,
  ) {}

  /** @throws Node's error when there is a file already */
  static createSync(fs: FileSystem, path: string): LargeFile {
    const plain = fs.openSync(path, { create: true, exclusive: true });
    const direct = fs.staging?.() ? openDirectSync(fs, path, { synced: false }) : null;
    return new LargeFile(fs, plain, BlockAppender.openSync(fs, plain, { synced: false }), direct);
  }

  get bytes(): number {
    return this.length;
  }

  /** One at a time. The bytes may change when it is done; they are durable after `sync`. */
  append(bytes: Uint8Array, done: DiskCallback): void {
    this.appender.write([bytes], this.length, (error) => {
      if (error === null) this.length += bytes.length;
      done(error);
    });
  }

  /** Durable, and no longer than what was appended. */
  sync(done: DiskCallback): void {
    try {
      // A direct write fills the last block with zeros.
      this.plain.truncateSync(this.length);
    } catch (error) {
      return done(error as Error);
    }
    this.plain.sync(done);
  }

  /**
   * `use` is given what is at `position`, a multiple of DIRECT_BLOCK_BYTES: `length` bytes, fewer at the end of the file. They are lent: another read
   * may overwrite them.
   */
  read(position: number, length: number, use: (bytes: Buffer) => void, done: DiskCallback): void {
    const { direct } = this;
    const staging = this.fs.staging?.() ?? null;
    if (direct === null || staging === null) return this.readPlain(position, length, use, done);
    staging.take(length, (memory) => {
      const wanted = roundUp(Math.min(length, memory.length), DIRECT_BLOCK_BYTES);
      direct.readInto(memory.subarray(0, wanted), position, (error, count) => {
        if (error === null) use(memory.subarray(0, Math.min(count, length)));
        staging.give(memory);
        if (error !== null && isRefusal(error)) {
          this.closeDirectSync();
          this.readPlain(position, length, use, done);
        } else done(error);
      });
    });
  }

  private readPlain(position: number, length: number, use: (bytes: Buffer) => void, done: DiskCallback): void {
    this.plain.read(length, position, (error, bytes) => {
      if (error === null) use(bytes);
      done(error);
    });
  }

  private closeDirectSync(): void {
    this.direct?.closeSync();
    this.direct = null;
  }

  closeSync(): void {
    this.appender.closeSync();
    this.closeDirectSync();
    this.plain.closeSync();
  }
}
