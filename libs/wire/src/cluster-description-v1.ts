import {
  ByteReader,
  ByteWriter,
  asGroupId,
  asNodeId,
  asPartitionId,
  asTerm,
  isViewLimit,
  TidelineError,
  VIEW_DEFAULTS,
  VIEW_LIMIT_NAMES,
  type GroupId,
  type NodeId,
  type Offset,
  type PartitionId,
  type Term,
  type ViewLimit,
  type ViewSettings,
} from '#kernel';
import { readAll, readCount, readEnum, readOptionalU64, writeEnum, writeOptionalU64 } from './payload-fields.js';

/**
 * What a node says of its cluster, version 1. Little endian.
 *
 *     description = string clusterId · u32 node
 *                   varint count × node · varint count × topic
 *     node        = u32 id · string region · bool alive · varint count × (string service, string address)
 *     topic       = string name · varint replication · optional u64 retentionMs · optional u64 retentionBytes
 *                   enum viewKind (map none) · u8 settings · u64 for each of bits 2 to 16 that is set · varint count × partition
 *     settings    = 1 archive · 2 defaultTtlMs · 4 maxIdleMs · 8 maxEntries · 16 maxBytes
 *     partition   = varint partition · u32 group · u32 leader (0 none) · u32 term
 *                   varint count × u32 replica · varint count × u32 learner · u64 commitOffset · u64 logStartOffset
 */
export interface PartitionDescriptionMessage {
  readonly partition: PartitionId;
  readonly group: GroupId;
  readonly leader: NodeId;
  readonly term: Term;
  readonly replicas: readonly NodeId[];
  readonly learners: readonly NodeId[];
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}

export interface TopicDescriptionMessage {
  readonly name: string;
  readonly partitions: readonly PartitionDescriptionMessage[];
  readonly replication: number;
  readonly retention: { readonly ms: number | null; readonly bytes: number | null };
  readonly view: { readonly kind: 'map' | 'none' } & ViewSettings;
}

export interface NodeDescriptionMessage {
  readonly id: NodeId;
  readonly addresses: Readonly<Record<string, string>>;
  readonly region: string;
  readonly alive: boolean;
}

export interface ClusterDescriptionMessage {
  readonly clusterId: string;
  readonly node: NodeId;
  readonly nodes: readonly NodeDescriptionMessage[];
  readonly topics: readonly TopicDescriptionMessage[];
}

const VIEW_KINDS = ['map', 'none'] as const;

const writeNodeIds = (writer: ByteWriter, ids: readonly NodeId[]): void => {
  writer.varint(ids.length);
  for (const id of ids) writer.u32(id);
};

const readNodeIds = (reader: ByteReader): NodeId[] => {
  const ids: NodeId[] = [];
  for (let left = readCount(reader, 4); left > 0; left--) ids.push(asNodeId(reader.u32()));
  return ids;
};

const writePartition = (writer: ByteWriter, partition: PartitionDescriptionMessage): void => {
  writer.varint(partition.partition).u32(partition.group).u32(partition.leader).u32(partition.term);
  writeNodeIds(writer, partition.replicas);
  writeNodeIds(writer, partition.learners);
  writer.u64(partition.commitOffset).u64(partition.logStartOffset);
};

const readPartition = (reader: ByteReader): PartitionDescriptionMessage => ({
  partition: asPartitionId(reader.varint()),
  group: asGroupId(reader.u32()),
  leader: asNodeId(reader.u32()),
  term: asTerm(reader.u32()),
  replicas: readNodeIds(reader),
  learners: readNodeIds(reader),
  commitOffset: reader.offset(),
  logStartOffset: reader.offset(),
});

const SETTINGS_KNOWN = 2 ** (VIEW_LIMIT_NAMES.length + 1) - 1;

const writeSettings = (writer: ByteWriter, settings: ViewSettings): void => {
  let bits = settings.archive ? 1 : 0;
  for (const [i, name] of VIEW_LIMIT_NAMES.entries()) if (settings[name] !== null) bits |= 2 << i;
  writer.u8(bits);
  for (const name of VIEW_LIMIT_NAMES) {
    const value = settings[name];
    if (value !== null) writer.u64(value);
  }
};

const readSettings = (reader: ByteReader): ViewSettings => {
  const bits = reader.u8();
  if ((bits & ~SETTINGS_KNOWN) !== 0) throw new TidelineError('malformed-frame', `view settings ${bits}`);
  const limits: Partial<Record<ViewLimit, number>> = {};
  for (const [i, name] of VIEW_LIMIT_NAMES.entries()) {
    if ((bits & (2 << i)) === 0) continue;
    const value = reader.u64();
    if (!isViewLimit(name, value)) throw new TidelineError('malformed-frame', `${name} of a view is ${value}`);
    limits[name] = value;
  }
  return { ...VIEW_DEFAULTS, ...limits, archive: (bits & 1) !== 0 };
};

const writeTopic = (writer: ByteWriter, topic: TopicDescriptionMessage): void => {
  writer.string(topic.name).varint(topic.replication);
  writeOptionalU64(writer, topic.retention.ms);
  writeOptionalU64(writer, topic.retention.bytes);
  writeEnum(writer, VIEW_KINDS, topic.view.kind);
  writeSettings(writer, topic.view);
  writer.varint(topic.partitions.length);
  for (const partition of topic.partitions) writePartition(writer, partition);
};

const readTopic = (reader: ByteReader): TopicDescriptionMessage => {
  const name = reader.string();
  const replication = reader.varint();
  const retention = { ms: readOptionalU64(reader), bytes: readOptionalU64(reader) };
  const view = { kind: readEnum(reader, VIEW_KINDS), ...readSettings(reader) };
  const partitions: PartitionDescriptionMessage[] = [];
  for (let left = readCount(reader, 31); left > 0; left--) partitions.push(readPartition(reader));
  return { name, partitions, replication, retention, view };
};

/** Pairs of strings, as the hello has them too. A name that means something to objects stays an ordinary entry. */
export const writeAddresses = (writer: ByteWriter, addresses: Readonly<Record<string, string>>): void => {
  const entries = Object.entries(addresses);
  writer.varint(entries.length);
  for (const [service, address] of entries) writer.string(service).string(address);
};

export const readAddresses = (reader: ByteReader): Record<string, string> => {
  const entries: [string, string][] = [];
  for (let left = readCount(reader, 2); left > 0; left--) entries.push([reader.string(), reader.string()]);
  return Object.fromEntries(entries);
};

const readNode = (reader: ByteReader): NodeDescriptionMessage => {
  const id = asNodeId(reader.u32());
  const region = reader.string();
  const alive = reader.bool();
  return { id, region, alive, addresses: readAddresses(reader) };
};

export const encodeClusterDescription = (description: ClusterDescriptionMessage): Buffer => {
  const writer = new ByteWriter(1024).string(description.clusterId).u32(description.node);
  writer.varint(description.nodes.length);
  for (const node of description.nodes) {
    writer.u32(node.id).string(node.region).bool(node.alive);
    writeAddresses(writer, node.addresses);
  }
  writer.varint(description.topics.length);
  for (const topic of description.topics) writeTopic(writer, topic);
  return writer.finish();
};

/** @throws TidelineError `malformed-frame` */
export const decodeClusterDescription = (payload: Uint8Array): ClusterDescriptionMessage =>
  readAll(payload, (reader) => {
    const clusterId = reader.string();
    const node = asNodeId(reader.u32());
    const nodes: NodeDescriptionMessage[] = [];
    for (let left = readCount(reader, 7); left > 0; left--) nodes.push(readNode(reader));
    const topics: TopicDescriptionMessage[] = [];
    for (let left = readCount(reader, 7); left > 0; left--) topics.push(readTopic(reader));
    return { clusterId, node, nodes, topics };
  });
