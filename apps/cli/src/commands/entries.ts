import type { Command } from 'commander';
import { ExitCode } from '../exit-code.js';
import { printObject, printRows } from '../output.js';
import { asWrite, countOption, durationOption, withClient } from '../session.js';

interface SetOptions {
  readonly view: string;
  readonly ttl?: string;
  readonly ifAbsent?: boolean;
  readonly ifOffset?: string;
}

interface ScanOptions {
  readonly view: string;
  readonly prefix: string;
  readonly limit: string;
}

const SCAN_LIMIT = '100';

export const registerEntryCommands = (program: Command): void => {
  program
    .command('get')
    .description('print the value of an entry as it was stored')
    .argument('<key>')
    .option('-v, --view <view>', 'the view', 'default')
    .action(async (key: string, options: { view: string }, command: Command) => {
      await withClient(command, async ({ client, format }) => {
        const entry = await client.get(options.view, key);
        if (!entry) {
          process.stderr.write(`tideline: no entry ${JSON.stringify(key)} in view ${options.view}\n`);
          process.exitCode = ExitCode.Failed;
        } else if (format === 'json') {
          const expiresAt = entry.expiresAt === null ? null : new Date(entry.expiresAt).toISOString();
          printObject(format, {
            key,
            value: entry.text(),
            contentType: entry.contentType,
            offset: entry.offset,
            expiresAt,
          });
        } else {
          process.stdout.write(entry.value);
          if (process.stdout.isTTY) process.stdout.write('\n');
        }
      });
    });

  program
    .command('set')
    .description('write an entry')
    .argument('<key>')
    .argument('<value>')
    .option('-v, --view <view>', 'the view', 'default')
    .option('--ttl <duration>', 'it expires after this long, e.g. 30s')
    .option('--if-absent', 'only if there is no entry')
    .option('--if-offset <offset>', 'only if the entry was last written at this offset')
    .action(async (key: string, value: string, options: SetOptions, command: Command) => {
      const conditions = {
        ...(options.ttl === undefined ? {} : { ttlMs: durationOption('--ttl', options.ttl) }),
        ...(options.ifAbsent ? { ifAbsent: true } : {}),
        ...(options.ifOffset === undefined
          ? {}
          : { ifOffset: countOption('--if-offset', options.ifOffset, { min: 1, max: Number.MAX_SAFE_INTEGER }) }),
      };
      await withClient(command, async ({ client, format }) => {
        const written = await asWrite(client.set(options.view, key, value, conditions));
        printObject(format, { ...written });
      });
    });

  program
    .command('del')
    .description('delete an entry')
    .argument('<key>')
    .option('-v, --view <view>', 'the view', 'default')
    .action(async (key: string, options: { view: string }, command: Command) => {
      await withClient(command, async ({ client, format }) => {
        const written = await asWrite(client.del(options.view, key));
        printObject(format, { ...written });
      });
    });

  program
    .command('scan')
    .description('list entries in the order of their keys')
    .option('-v, --view <view>', 'the view', 'default')
    .option('-p, --prefix <prefix>', 'keys that begin so', '')
    .option('-n, --limit <n>', 'at most so many', SCAN_LIMIT)
    .action(async (options: ScanOptions, command: Command) => {
      const limit = countOption('--limit', options.limit, { min: 1, max: 10_000_000 });
      await withClient(command, async ({ client, format }) => {
        const rows: Record<string, unknown>[] = [];
        for await (const entry of client.entries(options.view, {
          prefix: options.prefix,
          limit: Math.min(1000, limit),
        })) {
          const expires = entry.expiresAt === null ? null : new Date(entry.expiresAt).toISOString();
          rows.push({ key: entry.keyText(), value: entry.text(), offset: entry.offset, expires });
          if (rows.length >= limit) break;
        }
        printRows(format, rows);
      });
    });
};
