import type { DiskFile, FileSystem } from './file-system.js';

/**
 * The same file system without syncs: `durability: os`. Writes survive the end of the process, not that of the machine; a power failure may
 * take back what was acknowledged.
 */
export const unsyncedFileSystem = (fs: FileSystem): FileSystem => ({
  openSync: (path, options) => withoutSync(fs.openSync(path, { ...options, synced: false })),
  existsSync: (path) => fs.existsSync(path),
  mkdirSync: (path) => fs.mkdirSync(path),
  readdirSync: (path) => fs.readdirSync(path),
  renameSync: (from, to) => fs.renameSync(from, to),
  unlinkSync: (path) => fs.unlinkSync(path),
  unlink: (path, done) => fs.unlink(path, done),
  syncDirectorySync: () => undefined,
  freeBytesSync: (path) => fs.freeBytesSync(path),
  lockSync: (path) => fs.lockSync(path),
});

const withoutSync = (file: DiskFile): DiskFile => ({
  path: file.path,
  write: (buffers, position, done) => file.write(buffers, position, done),
  read: (length, position, done) => file.read(length, position, done),
  readInto: (memory, position, done) => file.readInto(memory, position, done),
  // Later, as a real one: callers may rely on not being called back before they return.
  sync: (done) => file.read(0, 0, () => done(null)),
  readSync: (length, position) => file.readSync(length, position),
  writeSync: (bytes, position) => file.writeSync(bytes, position),
  syncSync: () => undefined,
  truncateSync: (length) => file.truncateSync(length),
  sizeSync: () => file.sizeSync(),
  closeSync: () => file.closeSync(),
});
