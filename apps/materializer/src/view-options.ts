import type { TopicDescription } from '#command-log';
import { BUILT_IN_TYPES, type MapViewOptions } from '#views';

/** What limits a partition to: its share, rounded up. Keys are spread evenly by their hash, so partitions fill evenly. */
const shareOf = (limit: number | null, partitions: number): number | null =>
  limit === null ? null : Math.ceil(limit / partitions);

/** What a partition of the topic's map view is made with: the same on every host. */
export const viewOptionsOf = ({ view, partitions }: TopicDescription): MapViewOptions => ({
  dataTypes: BUILT_IN_TYPES,
  archive: view.archive,
  defaultTtlMs: view.defaultTtlMs,
  maxIdleMs: view.maxIdleMs,
  maxEntries: shareOf(view.maxEntries, partitions.length),
  maxBytes: shareOf(view.maxBytes, partitions.length),
});
