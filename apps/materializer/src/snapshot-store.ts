import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ALL_SLOTS, type SnapshotCatalog, type SnapshotEntry, type SnapshotSlot } from '#catalog';
import {
  NO_TERM,
  TidelineError,
  asLogTime,
  toTidelineError,
  type Clock,
  type GroupId,
  type LogTime,
  type Offset,
  type PartitionId,
} from '#kernel';
import { LargeFileReader, LargeFileWriter, type DiskCallback, type DiskFile, type FileSystem } from '#storage';
import {
  decodeSnapshotTable,
  encodeSnapshotTable,
  type MapView,
  type MapViewOptions,
  type SnapshotInfo,
  type SnapshotWriter,
} from '#views';
import type { SnapshotPace } from './snapshot-pace.js';
import { loadSnapshot, type SnapshotBytes } from './snapshot-bytes.js';

/** Read back at once; the process does other things between two reads. */
const READ_BYTES = 1024 * 1024;

/** Whose state a snapshot holds. The group tells a topic from one of the same name that was deleted before. */
export interface SnapshotSource {
  readonly clusterId: string;
  readonly view: string;
  readonly partition: PartitionId;
  readonly group: GroupId;
}

export interface SnapshotStoreOptions {
  readonly fileSystem: FileSystem;
  readonly catalog: SnapshotCatalog;
  /** Folder of the snapshots; made when the first is written. */
  readonly directory: string;
  /** Names this host in the catalog; the same after a restart. */
  readonly host: string;
  /** Snapshots of a partition that are kept. */
  readonly kept: number;
  readonly clock: Clock;
  /** Something is wrong with a snapshot; the host goes on without it. */
  readonly report: (message: string) => void;
}

/**
 * Snapshots of view partitions as files, `DIRECTORY/CLUSTER/VIEW-PARTITION-GROUP/OFFSET.snap`, and their catalog, which holds the table of
 * slots too. A file has all slots of its partition: 256 synced files of one slot each take 3 to 300 times as long (docs/operations.md), and
 * with the table any slot is read, verified and fetched alone. A snapshot only saves time: the log has it all, so what goes wrong with one
 * is reported and the log is read from further back.
 */
export class SnapshotStore {
  constructor(private readonly options: SnapshotStoreOptions) {}

  get host(): string {
    return this.options.host;
  }

  /** Newest first. Those of a topic of the same name that is gone leave the catalog. Never rejects. */
  async list(source: SnapshotSource): Promise<SnapshotEntry[]> {
    const { catalog, report } = this.options;
    const folder = this.folder(source);
    let entries: SnapshotEntry[];
    try {
      entries = await catalog.list(this.slot(source));
    } catch (error) {
      report(`the snapshots of ${nameOf(source)} are not known: ${toTidelineError(error).message}`);
      return [];
    }
    for (const entry of entries) {
      // Of a topic of the same name that is gone, or of another cluster or data directory.
      if (dirname(entry.path) !== folder) await catalog.remove(entry).catch(() => false);
    }
    return entries.filter(({ path }) => dirname(path) === folder);
  }

  /** Log time before which all that departed is in this host's archive, but for its gaps; null: that is not known. Rejects when the catalog does not say. */
  async archivedUntil(source: SnapshotSource): Promise<LogTime | null> {
    const folder = this.folder(source);
    // Whatever became of their files: it was so when they were written.
    const times = (await this.options.catalog.list(this.slot(source)))
      .filter(({ path }) => dirname(path) === folder)
      .flatMap(({ archivedUntil }) => (archivedUntil === null ? [] : [archivedUntil]));
    return times.length === 0 ? null : asLogTime(Math.max(...times));
  }

  /** The view as of the newest good snapshot of this host, null if there is none. */
  async restore(source: SnapshotSource, options: MapViewOptions): Promise<MapView | null> {
    for (const entry of await this.list(source)) {
      if (!entry.verified) continue;
      let from: SnapshotBytes | null = null;
      try {
        from = this.open(entry);
        const { view, damaged } = await loadSnapshot(from, { options });
        if (damaged.length === 0) return view;
        await this.reject(entry, `slot ${damaged[0].slot} is not good: ${damaged[0].reason}`);
      } catch (error) {
        await this.reject(entry, `it is skipped: ${toTidelineError(error).message}`);
      } finally {
        from?.close();
      }
    }
    return null;
  }

  /** @throws Node's error when the file is not there */
  open(entry: SnapshotEntry): SnapshotBytes {
    const file = LargeFileReader.openSync(this.options.fileSystem, entry.path);
    return {
      name: `snapshot ${entry.path}`,
      bytes: file.bytes,
      read: (position, length) => readExactly(file, position, length),
      close: () => file.closeSync(),
    };
  }

  /** Part of a file, for another host. @throws (rejects) TidelineError `not-found` */
  async piece(
    source: SnapshotSource,
    request: { readonly offset: Offset; readonly position: number; readonly length: number },
  ): Promise<{ fileBytes: number; bytes: Buffer }> {
    const path = join(this.folder(source), fileName(request.offset));
    const { fileSystem } = this.options;
    if (!fileSystem.existsSync(path)) {
      throw new TidelineError('not-found', `no snapshot of ${nameOf(source)} at offset ${request.offset} here`);
    }
    const file = fileSystem.openSync(path, { readOnly: true });
    try {
      return { fileBytes: file.sizeSync(), bytes: await readPiece(file, request.position, request.length) };
    } finally {
      file.closeSync();
    }
  }

  /** Reading it showed that it is not good. */
  async reject(entry: SnapshotEntry, reason: string): Promise<void> {
    this.options.report(`${entry.path}: ${reason}`);
    await this.options.catalog.mark(entry, false).catch(() => false);
  }

  /**
   * Writes the view as it is now, and takes away what is superseded. `cancelled` is asked between steps, and `pace` says when the next may begin;
   * `archivedUntil` is as of now. Null: it was cancelled.
   */
  async write(
    source: SnapshotSource,
    view: MapView,
    {
      cancelled,
      pace,
      archivedUntil = null,
    }: {
      readonly cancelled: () => boolean;
      readonly pace?: SnapshotPace;
      readonly archivedUntil?: LogTime | null;
    },
  ): Promise<SnapshotEntry | null> {
    const { fileSystem, catalog, clock } = this.options;
    const folder = this.folder(source);
    this.makeFolder(folder);
    const { digest } = view;
    const frozen = view.freeze();
    const { offset, logTime } = frozen;
    const path = join(folder, fileName(offset));
    const temporary = `${path}.tmp`;
    let bytes: number | null;
    try {
      await this.unlink(temporary);
      bytes = await this.writeFile(temporary, frozen, cancelled, pace);
    } finally {
      frozen.release();
    }
    if (bytes === null) return null;
    fileSystem.renameSync(temporary, path);
    fileSystem.syncDirectorySync(folder);
    const entry: SnapshotEntry = {
      ...this.slot(source),
      offset,
      // Only committed batches are applied, so the offset alone says where it was.
      term: NO_TERM,
      logTime,
      digest,
      bytes,
      path,
      createdAt: clock.wallMs(),
      verified: true,
      slotTable: encodeSnapshotTable(frozen.table),
      archivedUntil,
    };
    await catalog.add(entry);
    await this.discardOld(source, folder);
    return entry;
  }

  /** Durable and read back; its bytes. Null: it was cancelled. There is no file then, nor when it fails. */
  private async writeFile(
    path: string,
    frozen: SnapshotWriter,
    cancelled: () => boolean,
    pace?: SnapshotPace,
  ): Promise<number | null> {
    const file = LargeFileWriter.createSync(this.options.fileSystem, path);
    let done = false;
    try {
      // To open the file, to make a block and to hand it over: each takes a while the first time, so others have their turn in between.
      await nextTurn();
      for (const block of frozen) {
        if (cancelled()) return null;
        if (file.bytes === 0) await nextTurn();
        await settled((callback) => file.append(block, callback));
        await pace?.rest();
      }
      await settled((callback) => file.sync(callback));
      const readBack = await this.checksumOf(path, cancelled, pace);
      if (readBack === null) return null;
      if (readBack !== frozen.checksum) throw new TidelineError('storage-damaged', `${path} reads back otherwise`);
      done = true;
      return file.bytes;
    } finally {
      file.closeSync();
      if (!done) await this.unlink(path);
    }
  }

  /** CRC-32 of what is on the disk. Null: it was cancelled. */
  private async checksumOf(path: string, cancelled: () => boolean, pace?: SnapshotPace): Promise<number | null> {
    const file = LargeFileReader.openSync(this.options.fileSystem, path);
    let checksum = 0;
    const add = (bytes: Buffer): void => {
      checksum = crc32(bytes, checksum);
    };
    try {
      for (let at = 0; at < file.bytes; at += READ_BYTES) {
        if (cancelled()) return null;
        await settled((callback) => file.read(at, READ_BYTES, add, callback));
        await pace?.rest();
      }
    } finally {
      file.closeSync();
    }
    return checksum;
  }

  /** Files go after their entries, so that no entry is without a file. Older ones without an entry go too. */
  private async discardOld(source: SnapshotSource, folder: string): Promise<void> {
    const { fileSystem, catalog, kept } = this.options;
    const slot = this.slot(source);
    await catalog.keepNewest(slot, kept);
    const names = new Set((await catalog.list(slot)).map(({ offset }) => fileName(offset)));
    for (const name of fileSystem.readdirSync(folder)) {
      if (!names.has(name)) await this.unlink(join(folder, name));
    }
  }

  /** If it is there. Off the thread: to give back what a large file took takes long, 0.1 s for half a gigabyte (docs/performance.md). */
  private async unlink(path: string): Promise<void> {
    try {
      await settled((callback) => this.options.fileSystem.unlink(path, callback));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Takes away all snapshots of a partition that this host has. Never rejects. */
  async discardAll(source: SnapshotSource): Promise<void> {
    const { fileSystem, catalog, report } = this.options;
    const folder = this.folder(source);
    try {
      for (const entry of await this.list(source)) await catalog.remove(entry);
      if (!fileSystem.existsSync(folder)) return;
      for (const name of fileSystem.readdirSync(folder)) await this.unlink(join(folder, name));
    } catch (error) {
      report(`old snapshots of ${nameOf(source)} are not taken away: ${toTidelineError(error).message}`);
    }
  }

  private slot({ view, partition }: SnapshotSource): SnapshotSlot & { readonly host: string } {
    return { view, partition, slot: ALL_SLOTS, host: this.options.host };
  }

  private folder({ clusterId, view, partition, group }: SnapshotSource): string {
    // A cluster may be known by no name; a folder may not.
    return join(this.options.directory, `cluster-${clusterId}`, `${view}-${partition}-${group}`);
  }

  private makeFolder(path: string): void {
    const { fileSystem } = this.options;
    if (fileSystem.existsSync(path)) return;
    this.makeFolder(dirname(path));
    try {
      fileSystem.mkdirSync(path);
    } catch (error) {
      // Another partition's store may have made the same parent meanwhile.
      if (!fileSystem.existsSync(path)) throw error;
    }
    fileSystem.syncDirectorySync(dirname(path));
  }
}

export const infoOf = (entry: SnapshotEntry): SnapshotInfo => {
  const { host, view, partition, offset, logTime, digest, bytes, createdAt, verified } = entry;
  // Of an older format there is no table.
  const slots = entry.slotTable.length === 0 ? [] : decodeSnapshotTable(entry.slotTable).slots;
  const entries = slots.reduce((sum, slot) => sum + slot.entries, 0);
  return { host, view, partition, offset, logTime, digest, bytes, entries, slots: slots.length, createdAt, verified };
};

const nameOf = ({ view, partition }: SnapshotSource): string => `view ${view}, partition ${partition}`;

const fileName = (offset: number): string => `${String(offset).padStart(20, '0')}.snap`;

const nextTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

const settled = (start: (callback: DiskCallback) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(error)));
  });

const readPiece = (file: DiskFile, position: number, length: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    file.read(length, position, (error, bytes) => (error === null ? resolve(bytes) : reject(error)));
  });

const readExactly = async (file: LargeFileReader, position: number, length: number): Promise<Buffer> => {
  let bytes = Buffer.alloc(0);
  const copy = (lent: Buffer): void => {
    bytes = Buffer.from(lent);
  };
  await settled((callback) => file.read(position, length, copy, callback));
  if (bytes.length !== length)
    throw new TidelineError('storage-damaged', `the snapshot ends before byte ${position + length}`);
  return bytes;
};
