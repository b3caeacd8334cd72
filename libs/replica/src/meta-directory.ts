import {
  PARTITIONS_MAX,
  TOPIC_NAME_PATTERN,
  asGroupId,
  asNodeId,
  asOffset,
  NO_OFFSET,
  viewSettingsOf,
  type GroupId,
  type NodeId,
  type Offset,
  type ViewSettings,
} from '#kernel';
import { batchLastOffset, decodeRecords, forEachBatch } from '#wire';

/** A topic as the cluster's metadata has it. Its partitions are Raft groups, in the order of their numbers. */
export interface TopicEntry {
  readonly name: string;
  readonly partitions: readonly GroupId[];
  readonly replication: number;
  readonly retention: { readonly ms: number | null; readonly bytes: number | null };
  /** Settings that an older release did not know have their defaults. */
  readonly view: { readonly kind: 'map' | 'none' } & ViewSettings;
  /** Who votes first in each partition's group. */
  readonly voters: readonly NodeId[];
}

export const TOPIC_KEY_PREFIX = 'topic/';

/**
 * What the committed log of group 0 adds up to. Pure: the same batches give the same directory on every node.
 *
 *     key topic/<name>   value: a TopicEntry as JSON; tombstone: the topic is deleted
 *
 * Other keys, and values that are no TopicEntry, are passed over. Group 0 is never trimmed, so the fold begins at its beginning.
 */
export class MetaDirectory {
  private readonly entries = new Map<string, TopicEntry>();
  private readonly names = new Set<string>();
  private lastGroup = 0;
  private foldedOffset = NO_OFFSET;

  /** Everything up to here is in the directory. */
  get offset(): Offset {
    return this.foldedOffset;
  }

  /** By name, in order of creation. */
  get topics(): ReadonlyMap<string, TopicEntry> {
    return this.entries;
  }

  /** Whether there is or was a topic of that name. */
  knows(name: string): boolean {
    return this.names.has(name);
  }

  /** Numbers are never used again, not even those of deleted topics. */
  get nextGroup(): GroupId {
    return asGroupId(this.lastGroup + 1);
  }

  /** Takes in a run of committed batches; what it has already is passed over. Returns whether a topic changed. */
  apply(batches: Uint8Array): boolean {
    let changed = false;
    forEachBatch(batches, (at) => {
      const lastOffset = batchLastOffset(batches, at);
      if (lastOffset <= this.foldedOffset) return;
      for (const { key, value } of decodeRecords(batches, at)) {
        if (key !== null && this.applyRecord(key.toString(), value)) changed = true;
      }
      this.foldedOffset = asOffset(lastOffset);
    });
    return changed;
  }

  private applyRecord(key: string, value: Buffer | null): boolean {
    if (!key.startsWith(TOPIC_KEY_PREFIX)) return false;
    const name = key.slice(TOPIC_KEY_PREFIX.length);
    if (value === null) return this.entries.delete(name);
    const entry = parseTopicEntry(value.toString());
    if (entry === null || entry.name !== name) return false;
    this.entries.set(name, entry);
    this.names.add(name);
    for (const group of entry.partitions) this.lastGroup = Math.max(this.lastGroup, group);
    return true;
  }
}

const isCount = (value: unknown, max: number): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= max;

const isLimit = (value: unknown): value is number | null => value === null || isCount(value, Number.MAX_SAFE_INTEGER);

const GROUP_MAX = 0xffff_ffff;
const NODE_MAX = 0x7fff_ffff;

/** null for anything that is not one. Unknown members are dropped. */
export const parseTopicEntry = (json: string): TopicEntry | null => {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { name, partitions, replication, retention, view, voters } = value as Record<string, unknown>;
  if (typeof name !== 'string' || !TOPIC_NAME_PATTERN.test(name)) return null;
  if (!Array.isArray(partitions) || partitions.length === 0 || partitions.length > PARTITIONS_MAX) return null;
  if (!partitions.every((group) => isCount(group, GROUP_MAX)) || !isCount(replication, NODE_MAX)) return null;
  if (!Array.isArray(voters) || voters.length === 0 || !voters.every((id) => isCount(id, NODE_MAX))) return null;
  const { ms = null, bytes = null } = (retention ?? {}) as Record<string, unknown>;
  const { kind = 'map', ...given } = (view ?? {}) as Record<string, unknown>;
  const settings = viewSettingsOf(given);
  if (!isLimit(ms) || !isLimit(bytes) || (kind !== 'map' && kind !== 'none') || typeof settings === 'string')
    return null;
  return {
    name,
    partitions: partitions.map(asGroupId),
    replication,
    retention: { ms, bytes },
    view: { kind, ...settings },
    voters: voters.map(asNodeId),
  };
};
