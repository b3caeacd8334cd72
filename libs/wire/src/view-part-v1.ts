import type { ByteReader, ByteWriter } from '#kernel';

/**
 * A partition of a view as hosts name it to one another, version 1; part of messages of the snapshot and the archive service.
 *
 *     part   string clusterId · string view · varint partition · u32 group             whose state: the group tells a topic from a deleted one
 */
export interface ViewPart {
  readonly clusterId: string;
  readonly view: string;
  readonly partition: number;
  readonly group: number;
}

export const writePart = (writer: ByteWriter, { clusterId, view, partition, group }: ViewPart): ByteWriter =>
  writer.string(clusterId).string(view).varint(partition).u32(group);

export const readPart = (reader: ByteReader): ViewPart => ({
  clusterId: reader.string(),
  view: reader.string(),
  partition: reader.varint(),
  group: reader.u32(),
});
