import { crc32 } from 'node:zlib';
import {
  ByteReader,
  ByteWriter,
  TidelineError,
  asGroupId,
  asNodeId,
  readU32,
  systemRng,
  writeU32,
  type GroupId,
  type NodeId,
  type Rng,
} from '#kernel';
import type { FileSystem } from './file-system.js';

/**
 * A node's data directory:
 *
 *     node.meta            who the directory belongs to
 *     lock                 who uses it at the moment (see directory-lock.ts)
 *     group-%010d/         a partition's log, by Raft group
 *
 * node.meta, written aside, synced, renamed, the folder synced:
 *
 *     u32 magic "TLND" · u32 version (2) · u32 node id · string cluster id ("" = not settled yet)
 *     varint count, count × u32 voter: the first voters of the cluster, as given at the first start
 *     string directory id: drawn when the directory was made
 *     varint count, count × (u32 node id, string directory id): the directories of the peers
 *     u32 CRC-32 of all before
 *
 * The version is that of the whole directory: a program that does not know it leaves it alone. Version 1 had no directory ids; it is given
 * one when it is opened.
 *
 * A node is its directory: what it has acknowledged and how it voted is there and nowhere else. Peers remember the id of the directory that a node
 * has, and do not talk to one that comes back with another.
 */
export const META_FILE = 'node.meta';
export const DIRECTORY_VERSION = 2;
/** Peers whose directories are remembered. */
export const KNOWN_PEERS_MAX = 1000;
const META_MAGIC = 0x444e4c54;
const META_BYTES_MAX = 64 * 1024;
export const CLUSTER_ID_PATTERN = /^[a-zA-Z0-9._-]{1,64}$/;

export interface NodeMeta {
  readonly version: number;
  readonly nodeId: NodeId;
  readonly clusterId: string | null;
  readonly clusterVoters: readonly NodeId[];
  /** Empty in a directory of version 1. */
  readonly directoryId: string;
  readonly peerDirectories: ReadonlyMap<NodeId, string>;
}

export interface OpenDataDirectory {
  readonly fs: FileSystem;
  readonly directory: string;
  readonly nodeId: NodeId;
  /** null: take what is stored; if nothing is, it stays open until `settleClusterId`. */
  readonly clusterId: string | null;
  /** First voters of the cluster; stored at the first start, and from then on what is stored counts. */
  readonly clusterVoters?: readonly NodeId[];
  /** For the id of a new directory. */
  readonly rng?: Rng;
}

export interface DataDirectory {
  readonly path: string;
  readonly nodeId: NodeId;
  /** null until it is known. */
  readonly clusterId: string | null;
  readonly clusterVoters: readonly NodeId[];
  /** The directory was empty. */
  readonly isNew: boolean;
  /**
   * Durable when it returns. The same id again is fine.
   * @throws TidelineError `directory-foreign` when another one is settled already
   */
  settleClusterId(clusterId: string): void;
  /** What no other directory has. */
  readonly directoryId: string;
  /**
   * Whether the node with this directory is the one that is known by this id; the first that comes is, and that is durable when this returns.
   * An empty directory id (of a program that has none) is taken for any.
   */
  admitPeer(nodeId: NodeId, directoryId: string): boolean;
  groupDirectory(group: GroupId): string;
  /** Groups that have a folder, ascending. */
  groups(): GroupId[];
  /** Gives the lock back. */
  close(): void;
}

const GROUP_DIRECTORY = /^group-(\d{10})$/;
export const groupDirectoryName = (group: GroupId): string => `group-${String(group).padStart(10, '0')}`;
export const parseGroupDirectoryName = (name: string): GroupId | null => {
  const digits = GROUP_DIRECTORY.exec(name)?.[1];
  return digits === undefined ? null : asGroupId(Number(digits));
};

/**
 * Takes a data directory for this process and checks that it is this node's; creates it when missing.
 * @throws TidelineError `directory-locked` | `directory-foreign` | `unsupported-version` | `storage-damaged` | `bad-option`
 */
export const openDataDirectory = (request: OpenDataDirectory): DataDirectory => {
  const { fs, directory, nodeId } = request;
  if (request.clusterId !== null) checkClusterId(request.clusterId);
  let lock: { release(): void } | null = null;
  try {
    createPath(fs, directory);
    lock = fs.lockSync(directory);
    return openLocked(request, lock);
  } catch (error) {
    lock?.release();
    if (error instanceof TidelineError) throw error;
    const message = `${directory} cannot be used as data directory of node ${nodeId}: ${(error as Error).message}`;
    throw new TidelineError('storage-damaged', message, { cause: error, details: { directory } });
  }
};

const openLocked = (
  { fs, directory, nodeId, clusterId, clusterVoters = [], rng = systemRng }: OpenDataDirectory,
  lock: { release(): void },
): DataDirectory => {
  const path = `${directory}/${META_FILE}`;
  const isNew = !fs.existsSync(path);
  if (isNew) {
    const others = fs.readdirSync(directory).filter((name) => parseGroupDirectoryName(name) !== null);
    if (others.length > 0) {
      throw new TidelineError(
        'storage-damaged',
        `${path} is missing, but there are partitions. Restore the file from a copy of the disk, ` +
          `or start this node with an empty directory under a new id.`,
        { details: { file: path } },
      );
    }
  }
  let meta: NodeMeta = isNew
    ? {
        version: DIRECTORY_VERSION,
        nodeId,
        clusterId,
        clusterVoters,
        directoryId: newDirectoryId(rng),
        peerDirectories: new Map(),
      }
    : readNodeMeta(fs, directory);
  if (meta.nodeId !== nodeId) {
    throw new TidelineError(
      'directory-foreign',
      `${directory} belongs to node ${meta.nodeId}, this is node ${nodeId}. ` +
        `Start it as node ${meta.nodeId}, or give node ${nodeId} a directory of its own.`,
      { details: { directory, nodeId: meta.nodeId } },
    );
  }
  // Only now is it known that this program may change anything here.
  if (fs.existsSync(`${path}.tmp`)) fs.unlinkSync(`${path}.tmp`);
  const write = (next: NodeMeta): void => {
    writeNodeMeta(fs, directory, next);
    meta = next;
  };
  const settleClusterId = (settled: string): void => {
    checkClusterId(settled);
    if (meta.clusterId === settled) return;
    if (meta.clusterId !== null) {
      throw new TidelineError(
        'directory-foreign',
        `${directory} belongs to cluster ${meta.clusterId}, not ${settled}. ` +
          `Point the node at the peers of ${meta.clusterId}, or give it an empty directory to join ${settled}.`,
        { details: { directory, clusterId: meta.clusterId } },
      );
    }
    write({ ...meta, clusterId: settled });
  };
  if (isNew) write(meta);
  else if (meta.directoryId === '') write({ ...meta, version: DIRECTORY_VERSION, directoryId: newDirectoryId(rng) });
  if (!isNew && clusterId !== null) settleClusterId(clusterId);

  return {
    path: directory,
    nodeId,
    isNew,
    get clusterId() {
      return meta.clusterId;
    },
    get clusterVoters() {
      return meta.clusterVoters;
    },
    get directoryId() {
      return meta.directoryId;
    },
    settleClusterId,
    admitPeer: (peer, directoryId) => {
      if (directoryId === '') return true;
      const known = meta.peerDirectories.get(peer);
      if (known !== undefined) return known === directoryId;
      // Nothing is forgotten to make room: a stranger beyond the limit is not admitted.
      if (meta.peerDirectories.size >= KNOWN_PEERS_MAX) return false;
      write({ ...meta, peerDirectories: new Map(meta.peerDirectories).set(peer, directoryId) });
      return true;
    },
    groupDirectory: (group) => `${directory}/${groupDirectoryName(group)}`,
    groups: () =>
      fs
        .readdirSync(directory)
        .map(parseGroupDirectoryName)
        .filter((group) => group !== null),
    close: () => lock.release(),
  };
};

const checkClusterId = (clusterId: string): void => {
  if (CLUSTER_ID_PATTERN.test(clusterId)) return;
  throw new TidelineError(
    'bad-option',
    `cluster id "${clusterId}" must be 1 to 64 of letters, digits, ".", "_" and "-"`,
  );
};

const createPath = (fs: FileSystem, directory: string): void => {
  if (directory === '' || fs.existsSync(directory)) return;
  const slash = directory.lastIndexOf('/');
  const parent = slash > 0 ? directory.slice(0, slash) : '';
  if (parent !== '') createPath(fs, parent);
  try {
    fs.mkdirSync(directory);
  } catch (error) {
    // The catalog of the same process keeps its file here, too, and may have made the directory meanwhile.
    if (!fs.existsSync(directory)) throw error;
  }
  if (parent !== '') fs.syncDirectorySync(parent);
};

const writeNodeMeta = (fs: FileSystem, directory: string, meta: NodeMeta): void => {
  const writer = new ByteWriter(128)
    .u32(META_MAGIC)
    .u32(meta.version)
    .u32(meta.nodeId)
    .string(meta.clusterId ?? '');
  writer.varint(meta.clusterVoters.length);
  for (const voter of meta.clusterVoters) writer.u32(voter);
  writer.string(meta.directoryId).varint(meta.peerDirectories.size);
  for (const [peer, directoryId] of meta.peerDirectories) writer.u32(peer).string(directoryId);
  writer.u32(0);
  const bytes = writer.finish();
  writeU32(bytes, bytes.length - 4, crc32(bytes.subarray(0, bytes.length - 4)));
  const path = `${directory}/${META_FILE}`;
  const file = fs.openSync(`${path}.tmp`, { create: true });
  file.truncateSync(0);
  file.writeSync(bytes, 0);
  file.syncSync();
  file.closeSync();
  fs.renameSync(`${path}.tmp`, path);
  fs.syncDirectorySync(directory);
};

/** @throws TidelineError `storage-damaged` | `unsupported-version` */
export const readNodeMeta = (fs: FileSystem, directory: string): NodeMeta => {
  const path = `${directory}/${META_FILE}`;
  const file = fs.openSync(path, { readOnly: true });
  let bytes: Buffer;
  try {
    bytes = file.readSync(Math.min(file.sizeSync(), META_BYTES_MAX), 0);
  } finally {
    file.closeSync();
  }
  const whole =
    bytes.length > 16 &&
    readU32(bytes, 0) === META_MAGIC &&
    readU32(bytes, bytes.length - 4) === crc32(bytes.subarray(0, bytes.length - 4));
  if (!whole) {
    throw new TidelineError(
      'storage-damaged',
      `${path} is damaged: it does not say whose directory this is. Restore it from a copy of the disk, ` +
        `or start this node with an empty directory under a new id.`,
      { details: { file: path } },
    );
  }
  const reader = new ByteReader(bytes, 4, bytes.length - 4);
  const version = reader.u32();
  if (version < 1 || version > DIRECTORY_VERSION) {
    throw new TidelineError(
      'unsupported-version',
      `${directory} has format version ${version}, this program knows ${DIRECTORY_VERSION}. Start it with the program that wrote it.`,
      { details: { directory, version } },
    );
  }
  const nodeId = asNodeId(reader.u32());
  const clusterId = reader.string() || null;
  const clusterVoters = Array.from({ length: reader.varint() }, () => asNodeId(reader.u32()));
  const directoryId = version > 1 ? reader.string() : '';
  const peerDirectories = new Map<NodeId, string>();
  if (version > 1) {
    for (let count = reader.varint(); count > 0; count--) peerDirectories.set(asNodeId(reader.u32()), reader.string());
  }
  return { version, nodeId, clusterId, clusterVoters, directoryId, peerDirectories };
};

const newDirectoryId = (rng: Rng): string =>
  Array.from({ length: 4 }, () => rng.nextU32().toString(16).padStart(8, '0')).join('');
