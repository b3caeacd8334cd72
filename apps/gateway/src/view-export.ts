import { TidelineError } from '#kernel';
import {
  SNAPSHOT_FOOTER_BYTES,
  SnapshotEntries,
  decodeSnapshotFooter,
  decodeSnapshotTable,
  type SnapshotInfo,
  type ViewUpkeep,
} from '#views';
import { EXPORT_SECTION_BYTES, SNAPSHOT_PIECE_BYTES_MAX, ViewExportWriter, type ExportedEntry } from '#wire';
import type { GatewayServices } from './gateway-services.js';

/** What a section of entries takes beyond keys and values, an entry. */
const ENTRY_OVERHEAD_BYTES = 16;

/**
 * All entries of a map view as one file (libs/wire view-export-v1.ts): of a snapshot of each partition that is taken now, read piece by piece
 * as the reader takes them.
 */
export const exportView = async (
  services: GatewayServices,
  upkeep: ViewUpkeep,
  view: string,
): Promise<AsyncGenerator<Buffer, void, undefined>> => {
  const { topic } = await services.topics.readable(view);
  if (topic.name !== view) {
    throw new TidelineError('bad-request', `${view} is a projection: what it is made of is topic ${topic.name}`);
  }
  const { clusterId } = await services.topics.describe();
  const snapshots = await upkeep.createSnapshots({ view, partition: null });
  return pieces({ services, upkeep, clusterId, snapshots, groups: topic.partitions.map(({ group }) => group) });
};

interface Export {
  readonly services: GatewayServices;
  readonly upkeep: ViewUpkeep;
  readonly clusterId: string;
  readonly snapshots: readonly SnapshotInfo[];
  readonly groups: readonly number[];
}

async function* pieces({
  services,
  upkeep,
  clusterId,
  snapshots,
  groups,
}: Export): AsyncGenerator<Buffer, void, undefined> {
  const writer = new ViewExportWriter();
  yield writer.head({
    createdAt: services.time.clock.wallMs(),
    clusterId,
    view: snapshots[0].view,
    entries: snapshots.reduce((sum, { entries }) => sum + entries, 0),
    partitions: snapshots.map(({ partition, offset, logTime }) => ({ partition, offset, logTime })),
  });
  for (const info of snapshots) {
    const part = { clusterId, view: info.view, partition: info.partition, group: groups[info.partition] };
    const read = async (position: number, length: number): Promise<Buffer> => {
      const whole = Buffer.allocUnsafe(length);
      for (let at = 0; at < length; at += SNAPSHOT_PIECE_BYTES_MAX) {
        const asked = { position: position + at, length: Math.min(SNAPSHOT_PIECE_BYTES_MAX, length - at) };
        const { bytes } = await upkeep.piece({ ...part, offset: info.offset, ...asked });
        if (bytes.length !== asked.length)
          throw new TidelineError('storage-damaged', 'a snapshot is shorter than it was');
        bytes.copy(whole, at);
      }
      return whole;
    };
    const footer = await read(info.bytes - SNAPSHOT_FOOTER_BYTES, SNAPSHOT_FOOTER_BYTES);
    const { position, bytes } = decodeSnapshotFooter(footer, info.bytes);
    const table = decodeSnapshotTable(await read(position, bytes));
    const source = new SnapshotEntries(await read(0, table.preambleBytes), table);
    for (const place of table.slots) {
      let section: ExportedEntry[] = [];
      let sectionBytes = 0;
      for (const entry of source.entriesOf(place, await read(place.position, place.bytes))) {
        section.push(entry);
        sectionBytes += entry.key.length + entry.value.length + ENTRY_OVERHEAD_BYTES;
        if (sectionBytes < EXPORT_SECTION_BYTES) continue;
        yield writer.entries(section);
        section = [];
        sectionBytes = 0;
      }
      if (section.length > 0) yield writer.entries(section);
    }
  }
  yield writer.end();
}
