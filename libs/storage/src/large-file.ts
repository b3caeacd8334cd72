import { BlockAppender, isRefusal, openDirectSync, roundUp } from './block-appender.js';
import type { DiskCallback, DiskFile, FileSystem } from './file-system.js';
import { DIRECT_BLOCK_BYTES } from './staging-memory.js';

/**
 * Large files that are written once, from front to back, made durable at their end, and read by the piece. All goes past the page cache where that is
 * to be had (block-appender.ts): the pages would push others out, to find memory for them costs the kernel several times what write or read do, and what
 * is read back from a cache says nothing about the disk.
 */
export class LargeFileWriter {
  private length = 0;

  private constructor(
    private readonly plain: DiskFile,
    private readonly appender: BlockAppender,
  ) {}

  /** @throws Node's error when there is a file already */
  static createSync(fs: FileSystem, path: string): LargeFileWriter {
    const plain = fs.openSync(path, { create: true, exclusive: true });
    return new LargeFileWriter(plain, BlockAppender.openSync(fs, plain, { synced: false }));
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

  closeSync(): void {
    this.appender.closeSync();
    this.plain.closeSync();
  }
}

/** Read past the page cache at once; more goes through it. */
const DIRECT_READ_BYTES_MAX = 1024 * 1024;

export class LargeFileReader {
  readonly bytes: number;

  private constructor(
    private readonly fs: FileSystem,
    private readonly plain: DiskFile,
    private direct: DiskFile | null,
  ) {
    this.bytes = plain.sizeSync();
  }

  /** @throws Node's error when there is no such file */
  static openSync(fs: FileSystem, path: string): LargeFileReader {
    const plain = fs.openSync(path, { readOnly: true });
    const direct = fs.staging?.() ? openDirectSync(fs, path, { readOnly: true }) : null;
    return new LargeFileReader(fs, plain, direct);
  }

  /** `use` is given what is there, fewer bytes at the end of the file. They are lent: another read may overwrite them. */
  read(position: number, length: number, use: (bytes: Buffer) => void, done: DiskCallback): void {
    const { direct } = this;
    const staging = this.fs.staging?.() ?? null;
    const before = position % DIRECT_BLOCK_BYTES;
    const wanted = roundUp(before + length, DIRECT_BLOCK_BYTES);
    if (direct === null || staging === null || length > DIRECT_READ_BYTES_MAX) {
      return this.readPlain(position, length, use, done);
    }
    staging.take(wanted, (memory) => {
      const again = (): void => {
        staging.give(memory);
        this.readPlain(position, length, use, done);
      };
      // Lent only when another piece came back: meanwhile another read may have found that it is refused; and there may be smaller pieces only.
      if (this.direct === null || memory.length < wanted) return again();
      direct.readInto(memory.subarray(0, wanted), position - before, (error, count) => {
        if (error !== null && isRefusal(error)) {
          this.closeDirectSync();
          return again();
        }
        if (error === null) use(memory.subarray(before, Math.max(before, Math.min(count, before + length))));
        staging.give(memory);
        done(error);
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
    this.closeDirectSync();
    this.plain.closeSync();
  }
}
