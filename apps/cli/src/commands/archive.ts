import type { ArchivedViewEntry } from '#client';
import type { Command } from 'commander';
import { UsageError } from '../exit-code.js';
import { printRows } from '../output.js';
import { countOption, withClient } from '../session.js';

interface ArchiveCommandOptions {
  readonly key?: string;
  readonly from?: string;
  readonly to?: string;
  readonly limit: string;
}

const LIMIT = '100';
const LIMIT_MAX = 10_000_000;
/** Rows printed at a time: a large archive is not gathered in memory. */
const ROWS_AT_A_TIME = 1000;

const timeOption = (name: string, text: string | undefined): number | undefined => {
  if (text === undefined) return undefined;
  const ms = /^\d{1,16}$/.test(text) ? Number(text) : Date.parse(text);
  if (!Number.isSafeInteger(ms)) throw new UsageError(`${name} ${text}: an ISO 8601 time or milliseconds since 1970`);
  return ms;
};

const rowOf = (entry: ArchivedViewEntry): Record<string, unknown> => ({
  key: entry.keyText(),
  value: entry.text(),
  partition: entry.partition,
  offset: entry.offset,
  expired: new Date(entry.expiresAt!).toISOString(),
  archived: new Date(entry.archivedAt).toISOString(),
  reason: entry.evicted ? 'evicted' : 'expired',
});

export const registerArchiveCommand = (program: Command): void => {
  program
    .command('archive')
    .description('list entries that left a view for its archive, in the order in which they expired')
    .argument('<view>')
    .option('-k, --key <key>', 'only of this key')
    .option('--from <time>', 'expired at this time or later, e.g. 2026-03-01T09:00:00Z')
    .option('--to <time>', 'expired before this time')
    .option('-n, --limit <n>', 'at most so many', LIMIT)
    .action(async (view: string, options: ArchiveCommandOptions, command: Command) => {
      const { key } = options;
      const from = timeOption('--from', options.from);
      const to = timeOption('--to', options.to);
      const limit = countOption('--limit', options.limit, { min: 1, max: LIMIT_MAX });
      await withClient(command, async ({ client, format }) => {
        const asked = {
          limit,
          ...(key !== undefined && { key }),
          ...(from !== undefined && { from }),
          ...(to !== undefined && { to }),
        };
        let rows: Record<string, unknown>[] = [];
        let printed = 0;
        for await (const entry of client.archive(view, asked)) {
          rows.push(rowOf(entry));
          // JSON is one document.
          if (format === 'json' || rows.length < ROWS_AT_A_TIME) continue;
          printRows(format, rows);
          printed += rows.length;
          rows = [];
        }
        if (rows.length > 0 || printed === 0) printRows(format, rows);
      });
    });
};
