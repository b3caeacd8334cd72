import type { ViewDescription } from '#client';
import type { Command } from 'commander';
import { ExitCode, UsageError } from '../exit-code.js';
import { printObject, printRows } from '../output.js';
import { restJson } from '../rest.js';
import { asWrite, countOption, formatOf, withClient } from '../session.js';

interface ParkedEvent {
  readonly position: string;
  readonly type: string;
  readonly key: string | null;
  readonly value?: unknown;
  readonly error: string;
  readonly attempts: number;
}

const PARKED_LIMIT = '100';
const PARKED_LIMIT_MAX = 1_000_000;
const PARKED_PAGE = 1000;

const lagOf = ({ stats }: ViewDescription): number | null =>
  stats === null
    ? null
    : stats.partitions.reduce((sum, { commitOffset, offset }) => sum + Math.max(0, commitOffset - offset), 0);

const etaText = (seconds: number | null): string => (seconds === null ? 'no ETA yet' : `ETA ${seconds} s`);

const buildingText = ({ projection }: ViewDescription): string | null => {
  if (!projection?.building) return null;
  const { version, percent, etaSeconds } = projection.building;
  return `version ${version}: ${percent} %, ${etaText(etaSeconds)}`;
};

const rowOf = (view: ViewDescription): Record<string, unknown> => ({
  view: view.view,
  kind: view.kind,
  topic: view.topic,
  version: view.projection?.version ?? null,
  state: view.projection?.state ?? 'live',
  building: buildingText(view),
  entries: view.stats?.entries ?? null,
  bytes: view.stats?.bytes ?? null,
  lag: lagOf(view),
  parked: view.projection?.parked ?? null,
});

/** What programs read: the row with the building version, the halts and the partitions in full. */
const objectOf = (view: ViewDescription): Record<string, unknown> => {
  const { projection, stats } = view;
  return {
    ...rowOf(view),
    building: projection?.building ?? null,
    halted: projection?.halted ?? [],
    refusal: projection?.refusal || null,
    indexes: projection?.indexes ?? [],
    partitions: stats?.partitions ?? [],
  };
};

const pathOf = (view: string, rest: string): string => `/v1/views/${encodeURIComponent(view)}/${rest}`;

/** `partition:offset` as the list has it; a number alone is an offset of partition 0. */
const positionOption = (text: string): string => {
  const position = text.includes(':') ? text : `0:${text}`;
  if (!/^\d{1,5}:\d{1,16}$/.test(position)) throw new UsageError(`--offset ${text}: partition:offset, such as 0:17`);
  return position;
};

const registerParkedCommands = (view: Command): void => {
  view
    .command('parked')
    .description('events that a projection could not apply, in the order of the log')
    .argument('<view>')
    .option('-n, --limit <n>', 'at most so many', PARKED_LIMIT)
    .action(async (name: string, options: { limit: string }, command: Command) => {
      const limit = countOption('--limit', options.limit, { min: 1, max: PARKED_LIMIT_MAX });
      const events: ParkedEvent[] = [];
      for (let cursor: string | null = ''; cursor !== null && events.length < limit;) {
        const query = new URLSearchParams({ limit: String(Math.min(PARKED_PAGE, limit - events.length)), cursor });
        if (cursor === '') query.delete('cursor');
        type Page = { events: ParkedEvent[]; cursor: string | null };
        const page: Page = await restJson<Page>(command, 'GET', pathOf(name, `parked?${query.toString()}`));
        events.push(...page.events);
        cursor = page.cursor;
      }
      const format = formatOf(command);
      printRows(
        format,
        format === 'json'
          ? events.map((event) => ({ ...event }))
          : events.map(({ position, type, key, attempts, error }) => ({ position, type, key, attempts, error })),
      );
    });

  view
    .command('replay')
    .description('try events again that a projection could not apply, when its code is mended on every host')
    .argument('<view>')
    .option('--offset <partition:offset>', 'this event; a number alone is an offset of partition 0')
    .option('--all', 'all of them')
    .action(async (name: string, options: { offset?: string; all?: boolean }, command: Command) => {
      if ((options.offset === undefined) === (options.all !== true))
        throw new UsageError('say which: --offset PARTITION:OFFSET, or --all');
      const format = formatOf(command);
      if (options.offset !== undefined) {
        const path = pathOf(name, `parked/${positionOption(options.offset)}/replay`);
        const done = await asWrite(restJson<{ applied: boolean; error?: string }>(command, 'POST', path));
        printObject(format, done);
        if (!done.applied) process.exitCode = ExitCode.Failed;
        return;
      }
      const path = pathOf(name, 'parked/replay');
      const done = await asWrite(restJson<{ parked: number; more: boolean }>(command, 'POST', path));
      printObject(
        format,
        format === 'json' ? done : { 'still parked': `${done.parked}${done.more ? ' or more' : ''}` },
      );
      if (done.parked > 0) process.exitCode = ExitCode.Failed;
    });
};

export const registerViewCommands = (program: Command): void => {
  const view = program.command('view').description('the views, how far they are, and what they could not apply');
  view
    .command('list')
    .description('all views: kind, version, state, entries, lag, what is being built')
    .action(async (_options: unknown, command: Command) => {
      await withClient(command, async ({ client, format }) => {
        const views = await client.views();
        printRows(format, format === 'json' ? views.map(objectOf) : views.map(rowOf));
      });
    });
  view
    .command('describe')
    .description('one view in full; of a projection also the version that is being built, with its progress')
    .argument('<view>')
    .action(async (name: string, _options: unknown, command: Command) => {
      await withClient(command, async ({ client, format }) => {
        const found = (await client.views()).find((each) => each.view === name);
        if (found === undefined) {
          process.stderr.write(`tideline: no view is named ${name}\n`);
          process.exitCode = ExitCode.Failed;
          return;
        }
        if (format === 'json') {
          printObject(format, objectOf(found));
          return;
        }
        const { projection, stats } = found;
        printObject(format, {
          ...rowOf(found),
          ...(projection !== null && { indexes: projection.indexes.join(', ') || null, archive: projection.archive }),
          ...(projection?.refusal && { refusal: projection.refusal }),
        });
        for (const { partition, offset, reason } of projection?.halted ?? [])
          console.log(`halted at ${partition}:${offset}: ${reason}`);
        console.log('');
        printRows(
          format,
          (stats?.partitions ?? []).map(({ partition, offset, commitOffset, entries, bytes, digest }) => ({
            partition,
            offset,
            commit: commitOffset,
            entries,
            bytes,
            digest,
          })),
        );
      });
    });
  registerParkedCommands(view);
};
