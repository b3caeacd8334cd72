import { ByteReader, ByteWriter, TidelineError } from '#kernel';

/**
 * What the storage keeps as a checkpoint, and what a Raft snapshot carries as its state, version 1:
 *
 *     u8      version 1
 *     varint  length, log state at the checkpoint's offset (log-state.ts)
 *     varint  length, log state at the log's base; length 0: the same
 *
 * The state at the base is what a follower gets that is behind the base. It cannot be had from the log any more, so every checkpoint
 * carries it along.
 */
const FORMAT_VERSION = 1;

export interface CheckpointStates {
  readonly state: Buffer;
  readonly base: Buffer;
}

export const encodeCheckpoint = (state: Uint8Array, base: Uint8Array | null): Buffer => {
  const writer = new ByteWriter(state.length + (base?.length ?? 0) + 32).u8(FORMAT_VERSION).lengthPrefixed(state);
  if (base === null) writer.varint(0);
  else writer.lengthPrefixed(base);
  return writer.finish();
};

/** @throws TidelineError `malformed-frame` | `unsupported-version` */
export const decodeCheckpoint = (bytes: Uint8Array): CheckpointStates => {
  const reader = new ByteReader(bytes);
  const version = reader.u8();
  if (version !== FORMAT_VERSION) throw new TidelineError('unsupported-version', `checkpoint version ${version}`);
  const state = reader.lengthPrefixed();
  const base = reader.lengthPrefixed();
  if (reader.remaining > 0) throw new TidelineError('malformed-frame', 'bytes after the checkpoint');
  return { state, base: base.length === 0 ? state : base };
};
