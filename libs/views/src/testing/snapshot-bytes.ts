import type { MapView } from '../map-view.js';
import type { SnapshotWriter } from '../snapshot-writer.js';

/** Copies of the blocks of a snapshot, which are made in the same memory one after the other. */
export const blocksOf = (writer: SnapshotWriter): Buffer[] => Array.from(writer, (block) => Buffer.from(block));

/** The view as one snapshot. */
export const snapshotOf = (view: MapView): Buffer => Buffer.concat(blocksOf(view.freeze()));
