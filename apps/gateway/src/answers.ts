import type { ArchivePage, ParkedEvent } from '#views';
import type { GatewayServices } from './gateway-services.js';
import type { ScanRead } from './read-path.js';
import { departedToJson, entryToJson, keyToJson, parkedEventToJson, recordToJson } from './record-json.js';
import type { RecordPage } from './record-reader.js';
import { cursorAfter } from './requests.js';
import type { WatchChange } from './watch-stream.js';
import type { AppendAnswer, EntryWrite } from './write-path.js';

/** What REST and Nest TCP answer, as JSON text or as what it stands for. */
interface Appended {
  readonly partition: number;
  readonly firstOffset?: number;
  readonly lastOffset?: number;
  readonly partitions?: readonly {
    readonly partition: number;
    readonly firstOffset: number;
    readonly lastOffset: number;
  }[];
  readonly results?: readonly unknown[];
}

/** Acks none may come without offsets: nobody knows them. */
export const isSentOnly = ({ partitions }: AppendAnswer): boolean => partitions[0].lastOffset === 0;

export const appendedOf = (answer: AppendAnswer): Appended => {
  const { partitions, results } = answer;
  const [{ partition, firstOffset, lastOffset }] = partitions;
  if (isSentOnly(answer)) return { partition };
  return {
    partition,
    firstOffset,
    lastOffset,
    ...(partitions.length > 1 && {
      partitions: partitions.map((part) => ({
        partition: part.partition,
        firstOffset: part.firstOffset,
        lastOffset: part.lastOffset,
      })),
    }),
    ...(results && {
      results: results.map(({ ok, code, message, value }) =>
        ok ? { ok, result: value === '' ? null : (JSON.parse(value) as unknown) } : { ok, code, message },
      ),
    }),
  };
};

export const writtenToJson = ({ partition, offset }: EntryWrite): string =>
  offset === 0 ? `{"partition":${partition}}` : `{"partition":${partition},"offset":${offset}}`;

export const commandToJson = ({ partition, offset, result }: EntryWrite): string =>
  `{"result":${result === null || result.value === '' ? 'null' : result.value},"partition":${partition},"offset":${offset}}`;

export const pageToJson = (page: RecordPage, partition: number, services: GatewayServices): string => {
  const records = page.records.map((record) => recordToJson(record, partition, services.isJson));
  return (
    `{"partition":${partition},"records":[${records.join(',')}],"nextOffset":${page.nextOffset},` +
    `"commitOffset":${page.commitOffset},"logStartOffset":${page.logStartOffset}}`
  );
};

export const scanToJson = (page: ScanRead, values: boolean, services: GatewayServices): string => {
  const entries = page.entries.map((entry) => entryToJson(entry, services.isJson, values));
  const last = page.entries.at(-1);
  return `{"entries":[${entries.join(',')}],"cursor":${page.more && last ? `"${cursorAfter(last.key)}"` : 'null'}}`;
};

export const archiveToJson = ({ entries, cursor }: ArchivePage, services: GatewayServices): string =>
  `{"entries":[${entries.map((entry) => departedToJson(entry, services.isJson)).join(',')}],"cursor":${JSON.stringify(cursor)}}`;

export const parkedToJson = (
  events: readonly ParkedEvent[],
  cursor: string | null,
  services: GatewayServices,
): string =>
  `{"events":[${events.map((event) => parkedEventToJson(event, services.isJson)).join(',')}],"cursor":${JSON.stringify(cursor)}}`;

export const changeToJson = (change: WatchChange, services: GatewayServices): string =>
  change.type === 'put'
    ? entryToJson(change.entry, services.isJson)
    : `{${keyToJson(change.key)},"offset":${change.offset}}`;
