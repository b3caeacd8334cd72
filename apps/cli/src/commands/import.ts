import { open, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { UsageError } from '../exit-code.js';
import { importExport } from './import-view.js';
import { startProgress } from '../progress.js';
import { asWrite, countOption, withClient } from '../session.js';

interface ImportOptions {
  readonly topic: string;
  readonly view?: string;
  readonly key?: string;
  readonly batch: string;
}

const BATCHES_IN_FLIGHT = 16;
const FILE_BYTES_MAX_JSON = 512 * 1024 * 1024;

/** `tideline import FILE`: an NDJSON file, or a JSON file that holds one array, each value a record. */
export const registerImportCommand = (program: Command): void => {
  program
    .command('import')
    .description(
      'append every value of a JSON array or NDJSON file as a record, or with --view every entry of an export',
    )
    .argument('<file>')
    .option('-t, --topic <topic>', 'the topic', 'default')
    .option(
      '-v, --view <view>',
      'the file is of `tideline export`: its entries, with what is left of their time to live',
    )
    .option('-k, --key <member>', 'member of each value that becomes the record key')
    .option('-b, --batch <n>', 'records in one batch', '500')
    .action(async (file: string, options: ImportOptions, command: Command) => {
      const batch = countOption('--batch', options.batch, { min: 1, max: 10_000 });
      const { view } = options;
      if (view !== undefined) {
        await withClient(command, ({ client }) => importExport(client, file, { view, batch }));
        return;
      }
      const records = await readRecords(file, options.key);
      await withClient(command, async ({ client }) => {
        const progress = startProgress('importing', records.length);
        let next = 0;
        let done = 0;
        // Batches leave in file order, so records of one key keep it; several are under way at a time.
        const worker = async (): Promise<void> => {
          while (next < records.length) {
            const slice = records.slice(next, next + batch);
            next += slice.length;
            await client.append(options.topic, slice);
            done += slice.length;
            progress.update(done);
          }
        };
        await asWrite(Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, worker)));
        progress.finish();
        console.log(`${done} records appended to ${options.topic}`);
      });
    });
};

interface ImportedRecord {
  readonly key?: string;
  readonly value: string;
}

/** All of the file is read and checked before anything is appended: a bad line appends nothing. */
const readRecords = async (file: string, key: string | undefined): Promise<ImportedRecord[]> => {
  const first = await firstCharacter(file);
  const values = first === '[' ? await readArray(file) : await readLines(file);
  return values.map(({ value, where }) => {
    const text = JSON.stringify(value);
    if (key === undefined) return { value: text };
    const member = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
    if (typeof member !== 'string' && typeof member !== 'number')
      throw new UsageError(`${file}: ${where} has no member ${JSON.stringify(key)} that is a string or number`);
    return { key: String(member), value: text };
  });
};

const firstCharacter = async (file: string): Promise<string> => {
  const handle = await open(file).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(error.code === 'ENOENT' ? `${file}: no such file` : error.message);
  });
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(1024), 0, 1024, 0);
    return buffer.toString('utf8', 0, bytesRead).trimStart().charAt(0);
  } finally {
    await handle.close();
  }
};

const readArray = async (file: string): Promise<{ value: unknown; where: string }[]> => {
  const { size } = await stat(file);
  if (size > FILE_BYTES_MAX_JSON)
    throw new UsageError(`${file}: a JSON array of more than ${FILE_BYTES_MAX_JSON} bytes; make it one value a line`);
  const handle = await open(file);
  try {
    const parsed: unknown = JSON.parse(await handle.readFile('utf8'));
    if (!Array.isArray(parsed)) throw new UsageError(`${file}: not an array`);
    return parsed.map((value: unknown, i) => ({ value, where: `element ${i}` }));
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${file}: ${error.message}`);
    throw error;
  } finally {
    await handle.close();
  }
};

const readLines = async (file: string): Promise<{ value: unknown; where: string }[]> => {
  const handle = await open(file);
  try {
    const values: { value: unknown; where: string }[] = [];
    let number = 0;
    for await (const line of handle.readLines()) {
      number++;
      if (line.trim() === '') continue;
      try {
        values.push({ value: JSON.parse(line) as unknown, where: `line ${number}` });
      } catch {
        throw new UsageError(`${file}: line ${number} is not JSON`);
      }
    }
    return values;
  } finally {
    await handle.close();
  }
};
