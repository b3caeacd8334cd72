import type { StagingMemory } from './staging-memory.js';

/**
 * The one door to the disk. Three implementations: node (production), in-memory (tests), faulty (simulation: page cache and synced image apart).
 * What recovery and housekeeping need is synchronous; what the data plane needs takes a callback.
 * Errors are Node's own (`code: 'ENOENT' | 'ENOSPC' | 'EIO' | …`).
 */
export type DiskCallback = (error: Error | null) => void;

export interface DiskFile {
  readonly path: string;
  /**
   * Writes the buffers one after the other at `position`. With a file opened `synced`, success means durable.
   * At most one write of a file is in flight.
   */
  write(buffers: readonly Uint8Array[], position: number, done: DiskCallback): void;
  read(length: number, position: number, done: (error: Error | null, bytes: Buffer) => void): void;
  /** Fills the memory, less of it at the end of the file. With a file opened `direct` it is whole blocks, as for a write. */
  readInto(memory: Buffer, position: number, done: (error: Error | null, count: number) => void): void;
  /** Makes earlier writes durable (fdatasync). */
  sync(done: DiskCallback): void;
  readSync(length: number, position: number): Buffer;
  writeSync(bytes: Uint8Array, position: number): void;
  syncSync(): void;
  truncateSync(length: number): void;
  sizeSync(): number;
  closeSync(): void;
}

export interface OpenOptions {
  /** Every write is durable when it returns (O_DSYNC). */
  readonly synced?: boolean;
  readonly create?: boolean;
  /** With create: fail if it exists. */
  readonly exclusive?: boolean;
  readonly readOnly?: boolean;
  /**
   * Writes go past the page cache (O_DIRECT): whole blocks of DIRECT_BLOCK_BYTES from memory that `staging` lends.
   * `EINVAL`, when it is opened or written: the file system does not do it.
   */
  readonly direct?: boolean;
}

export interface FileSystem {
  openSync(path: string, options: OpenOptions): DiskFile;
  existsSync(path: string): boolean;
  mkdirSync(path: string): void;
  /** Names, sorted. */
  readdirSync(path: string): string[];
  /** Atomic; durable only after syncDirectorySync of the folder. */
  renameSync(from: string, to: string): void;
  unlinkSync(path: string): void;
  /** For large files: to give back what they took may take long. */
  unlink(path: string, done: DiskCallback): void;
  syncDirectorySync(path: string): void;
  /** Bytes free for this user on the volume. */
  freeBytesSync(path: string): number;
  /**
   * Exclusive use of a folder by this process, until released or the process ends (however it ends).
   * @throws TidelineError `directory-locked`
   */
  lockSync(path: string): { release(): void };
  /** Memory for direct writes, the same at every call; absent or null where there are none. */
  staging?(): StagingMemory | null;
}
