import { createReadStream } from 'node:fs';
import { ViewExportReader, isTidelineError, restoredRecord, type RecordToAppend, type TidelineClient } from '#client';
import { UsageError } from '../exit-code.js';
import { startProgress } from '../progress.js';
import { asWrite } from '../session.js';

const BATCHES_IN_FLIGHT = 16;

/** All of the file is read and checked before anything is appended: a bad or truncated file appends nothing. */
export const checkExport = async (file: string): Promise<number> => {
  const reader = new ViewExportReader();
  try {
    for await (const piece of createReadStream(file)) reader.push(piece as Buffer);
    reader.finish();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new UsageError(`${file}: no such file`);
    if (isTidelineError(error)) throw new UsageError(`${file}: ${error.message}; nothing was appended`);
    throw error;
  }
  return reader.entries;
};

/** Each entry as a record, with what is left of its time to live. Keys are all different, so their order is no matter. */
export const importExport = async (
  client: TidelineClient,
  file: string,
  { view, batch }: { readonly view: string; readonly batch: number },
): Promise<void> => {
  const entries = await checkExport(file);
  const progress = startProgress('importing', entries);
  const reader = new ViewExportReader();
  let appended = 0;
  let expired = 0;
  let failure: unknown = null;
  const under = new Set<Promise<void>>();
  const send = async (records: readonly RecordToAppend[]): Promise<void> => {
    while (under.size >= BATCHES_IN_FLIGHT) await Promise.race(under);
    if (failure !== null) return;
    const sending = client.append(view, records).then(
      () => {
        appended += records.length;
        progress.update(appended + expired);
      },
      (error: unknown) => {
        failure ??= error;
      },
    );
    under.add(sending);
    void sending.finally(() => under.delete(sending));
  };
  let waiting: RecordToAppend[] = [];
  for await (const piece of createReadStream(file)) {
    for (const entry of reader.push(piece as Buffer)) {
      const record = restoredRecord(entry, Date.now());
      if (record === null) expired++;
      else waiting.push(record);
      if (waiting.length < batch) continue;
      await send(waiting);
      waiting = [];
    }
    if (failure !== null) break;
  }
  if (waiting.length > 0) await send(waiting);
  await Promise.all(under);
  progress.finish();
  if (failure !== null) {
    process.stderr.write(
      `tideline: ${appended} of ${entries} entries were appended; importing again appends them all anew\n`,
    );
    await asWrite(Promise.reject(failure as Error));
  }
  console.log(`${appended} entries appended to ${view}${expired > 0 ? `, ${expired} had expired` : ''}`);
};
