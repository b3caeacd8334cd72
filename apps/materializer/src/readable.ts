import { ByteWriter } from '#kernel';
import type { DepartedEntry, Entry, MapView, Position, Projection, ReadPoint } from '#views';
import { writeFound, writeNotAnswered } from '#wire';
import { positionOf, type HostedPartition } from './hosted-partition.js';

/** What reads are made of: an open partition, or the states that a version without code has left. */
export interface Readable {
  readonly name: string;
  readonly view: MapView;
  readonly projection: Projection | null;
  /** Null: it stays as it is. */
  readonly open: HostedPartition | null;
}

export const entryAt = (
  { view, projection }: Pick<Readable, 'view' | 'projection'>,
  { key, at }: { readonly key: Buffer; readonly at: ReadPoint },
): { entry: Entry | null; position: Position } => ({
  entry: (projection ?? view).get(key, at.time ?? view.logTime),
  position: positionOf(view),
});

/** What of the key has expired or was evicted and is in memory; where nothing is live. */
export const departedAt = (
  { view, projection }: Pick<Readable, 'view' | 'projection'>,
  { key, partition, at }: { readonly key: Buffer; readonly partition: number; readonly at: ReadPoint },
): DepartedEntry | null => {
  const leaving = (projection ?? view).leaving(key, at.time ?? view.logTime);
  return leaving === null ? null : { ...leaving, partition, archivedAt: null };
};

/** What one found entry takes, about; a buffer grows where it is more. */
const FOUND_BYTES = 192;
const FOUND_BYTES_AT_FIRST_MAX = 64 * 1024;

export const foundAt = (
  { view, projection }: Pick<Readable, 'view' | 'projection'>,
  { keys, bytesMax, at }: { readonly keys: readonly Buffer[]; readonly bytesMax: number; readonly at: ReadPoint },
): { found: Buffer; position: Position } => {
  const time = at.time ?? view.logTime;
  const writer = new ByteWriter(Math.min(keys.length * FOUND_BYTES, FOUND_BYTES_AT_FIRST_MAX));
  if (projection === null) view.writeFound(keys, time, bytesMax, writer);
  else {
    for (const key of keys) {
      if (writer.position >= bytesMax) writeNotAnswered(writer);
      else writeFound(writer, projection.get(key, time));
    }
  }
  return { found: writer.finish(), position: positionOf(view) };
};
