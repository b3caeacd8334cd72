import { crc32 } from 'node:zlib';
import { asGroupId, asOffset, asTerm, readU32, readU64, writeU32, writeU64, type GroupId, type Offset } from '#kernel';
import type { DiskCallback, FileSystem } from './file-system.js';
import type { Checkpoint } from './partition-log.js';

/**
 * A checkpoint: the file `%020d.checkpoint`, named by its offset, written aside, synced, renamed, its folder synced.
 *
 *      0  u32  magic      "TLCP"
 *      4  u32  version    1
 *      8  u32  group
 *     12  u32  term       of the batch at `offset`
 *     16  u64  offset
 *     24  u32  length     of the payload
 *     28  u32  payloadCrc
 *     32  u32  crc        CRC-32 of bytes 0 … 31
 *     36  payload
 */
const CHECKPOINT_MAGIC = 0x50434c54;
const CHECKPOINT_VERSION = 1;
const HEADER_BYTES = 36;
export const CHECKPOINTS_KEPT = 2;

export const checkpointFileName = (offset: Offset): string => `${String(offset).padStart(20, '0')}.checkpoint`;

export const parseCheckpointFileName = (name: string): Offset | null =>
  /^\d{20}\.checkpoint$/.test(name) ? asOffset(Number(name.slice(0, 20))) : null;

type CheckpointInput = Omit<Checkpoint, 'bytes'> & { readonly bytes: Uint8Array };

const encodeHeader = (group: GroupId, checkpoint: CheckpointInput): Buffer => {
  const header = Buffer.alloc(HEADER_BYTES);
  writeU32(header, 0, CHECKPOINT_MAGIC);
  writeU32(header, 4, CHECKPOINT_VERSION);
  writeU32(header, 8, group);
  writeU32(header, 12, checkpoint.term);
  writeU64(header, 16, checkpoint.offset);
  writeU32(header, 24, checkpoint.bytes.length);
  writeU32(header, 28, crc32(checkpoint.bytes));
  writeU32(header, 32, crc32(header.subarray(0, 32)));
  return header;
};

/** What is wrong with a checkpoint file's bytes, or the checkpoint in them. */
export const decodeCheckpoint = (bytes: Buffer, group: GroupId, offset: Offset): Checkpoint | string => {
  if (bytes.length < HEADER_BYTES || readU32(bytes, 0) !== CHECKPOINT_MAGIC) return 'not a checkpoint';
  if (readU32(bytes, 32) !== crc32(bytes.subarray(0, 32))) return 'the header fails its checksum';
  if (readU32(bytes, 4) !== CHECKPOINT_VERSION) return `checkpoint version ${readU32(bytes, 4)} is not known`;
  if (asGroupId(readU32(bytes, 8)) !== group || readU64(bytes, 16) !== offset) return 'it belongs to another place';
  const payload = bytes.subarray(HEADER_BYTES);
  if (payload.length !== readU32(bytes, 24)) return 'it is cut short';
  if (readU32(bytes, 28) !== crc32(payload)) return 'the payload fails its checksum';
  return { offset, term: asTerm(readU32(bytes, 12)), bytes: payload };
};

export const readCheckpointSync = (
  fs: FileSystem,
  directory: string,
  group: GroupId,
  offset: Offset,
): Checkpoint | string => {
  const file = fs.openSync(`${directory}/${checkpointFileName(offset)}`, { readOnly: true });
  try {
    return decodeCheckpoint(file.readSync(file.sizeSync(), 0), group, offset);
  } finally {
    file.closeSync();
  }
};

/** Offsets of the checkpoint files there are, newest first, good or not. */
export const listCheckpointsSync = (fs: FileSystem, directory: string): Offset[] =>
  fs
    .readdirSync(directory)
    .map(parseCheckpointFileName)
    .filter((offset) => offset !== null)
    .toReversed();

/** Durable under its name when `done` says so; then the older ones beyond CHECKPOINTS_KEPT are let go. */
export const writeCheckpoint = (
  fs: FileSystem,
  directory: string,
  group: GroupId,
  checkpoint: CheckpointInput,
  done: DiskCallback,
): void => {
  const path = `${directory}/${checkpointFileName(checkpoint.offset)}`;
  try {
    const file = fs.openSync(`${path}.tmp`, { create: true });
    file.truncateSync(0);
    const finish = (error: Error | null): void => {
      file.closeSync();
      if (error) return done(error);
      try {
        fs.renameSync(`${path}.tmp`, path);
        fs.syncDirectorySync(directory);
        const older = listCheckpointsSync(fs, directory).filter((offset) => offset <= checkpoint.offset);
        for (const offset of older.slice(CHECKPOINTS_KEPT)) fs.unlinkSync(`${directory}/${checkpointFileName(offset)}`);
      } catch (failure) {
        return done(failure as Error);
      }
      done(null);
    };
    file.write([encodeHeader(group, checkpoint), checkpoint.bytes], 0, (error) => {
      if (error) finish(error);
      else file.sync(finish);
    });
  } catch (failure) {
    done(failure as Error);
  }
};
