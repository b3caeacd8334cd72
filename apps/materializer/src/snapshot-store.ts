import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ALL_SLOTS, type SnapshotCatalog, type SnapshotEntry, type SnapshotSlot } from '#catalog';
import { NO_TERM, TidelineError, toTidelineError, type Clock, type GroupId, type PartitionId } from '#kernel';
import type { DiskFile, FileSystem } from '#storage';
import { MapViewRestorer, type MapView, type MapViewOptions } from '#views';

/** Bytes read at once; the process does other things between two reads. */
const READ_BYTES = 256 * 1024;

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
 * Snapshots of view partitions as files, `DIRECTORY/CLUSTER/VIEW-PARTITION-GROUP/OFFSET.snap`, and their catalog. A snapshot only saves
 * time: the log has it all, so what goes wrong with one is reported and the log is read from further back.
 */
export class SnapshotStore {
  constructor(private readonly options: SnapshotStoreOptions) {}

  /** The view as of the newest good snapshot, null if there is none. Bad ones are reported and not tried again. */
  async restore(source: SnapshotSource, options: MapViewOptions): Promise<MapView | null> {
    const { catalog, report } = this.options;
    const folder = this.folder(source);
    let entries: SnapshotEntry[];
    try {
      entries = await catalog.list(this.slot(source));
    } catch (error) {
      report(`the snapshots of ${nameOf(source)} are not known: ${toTidelineError(error).message}`);
      return null;
    }
    for (const entry of entries) {
      if (dirname(entry.path) !== folder) {
        // Of a topic of the same name that is gone, or of another cluster or data directory.
        await catalog.remove(entry).catch(() => false);
        continue;
      }
      if (!entry.verified) continue;
      try {
        const view = await this.read(entry, options);
        if (view.offset === entry.offset && view.digest === entry.digest) return view;
        throw new TidelineError('storage-damaged', 'it is not what the catalog says');
      } catch (error) {
        report(`snapshot ${entry.path} is skipped: ${toTidelineError(error).message}`);
        await catalog.mark(entry, false).catch(() => false);
      }
    }
    return null;
  }

  private async read(entry: SnapshotEntry, options: MapViewOptions): Promise<MapView> {
    const restorer = new MapViewRestorer(options);
    const file = this.options.fileSystem.openSync(entry.path, { readOnly: true });
    try {
      await forEachPiece(file, (piece) => restorer.push(piece));
    } finally {
      file.closeSync();
    }
    return restorer.finish();
  }

  /** Writes the view as it is now, and takes away what is superseded. `cancelled` is asked between blocks. False: it was cancelled. */
  async write(source: SnapshotSource, view: MapView, cancelled: () => boolean): Promise<boolean> {
    const { fileSystem, catalog, clock } = this.options;
    const folder = this.folder(source);
    this.makeFolder(folder);
    const { digest } = view;
    const frozen = view.freeze();
    const { offset, logTime } = frozen;
    const path = join(folder, fileName(offset));
    const temporary = `${path}.tmp`;
    if (fileSystem.existsSync(temporary)) fileSystem.unlinkSync(temporary);
    const file = fileSystem.openSync(temporary, { create: true, exclusive: true });
    let bytes = 0;
    let checksum = 0;
    let done = false;
    try {
      for (const block of frozen) {
        if (cancelled()) return false;
        await settled((callback) => file.write([block], bytes, callback));
        bytes += block.length;
        checksum = crc32(block, checksum);
      }
      await settled((callback) => file.sync(callback));
      let readBack = 0;
      await forEachPiece(file, (piece) => (readBack = crc32(piece, readBack)));
      if (readBack !== checksum) throw new TidelineError('storage-damaged', `${temporary} reads back otherwise`);
      done = true;
    } finally {
      frozen.release();
      file.closeSync();
      if (!done) fileSystem.unlinkSync(temporary);
    }
    fileSystem.renameSync(temporary, path);
    fileSystem.syncDirectorySync(folder);
    await catalog.add({
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
    });
    await this.discardOld(source, folder);
    return true;
  }

  /** Files go after their entries, so that no entry is without a file. Older ones without an entry go too. */
  private async discardOld(source: SnapshotSource, folder: string): Promise<void> {
    const { fileSystem, catalog, kept } = this.options;
    const slot = this.slot(source);
    await catalog.keepNewest(slot, kept);
    const names = new Set((await catalog.list(slot)).map(({ offset }) => fileName(offset)));
    for (const name of fileSystem.readdirSync(folder)) {
      if (!names.has(name)) fileSystem.unlinkSync(join(folder, name));
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

const nameOf = ({ view, partition }: SnapshotSource): string => `view ${view}, partition ${partition}`;

const fileName = (offset: number): string => `${String(offset).padStart(20, '0')}.snap`;

const settled = (start: (callback: (error: Error | null) => void) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(error)));
  });

const forEachPiece = async (file: DiskFile, visit: (piece: Buffer) => void): Promise<void> => {
  for (let at = 0; ;) {
    const piece = await new Promise<Buffer>((resolve, reject) => {
      file.read(READ_BYTES, at, (error, bytes) => (error === null ? resolve(bytes) : reject(error)));
    });
    if (piece.length === 0) return;
    visit(piece);
    at += piece.length;
  }
};
