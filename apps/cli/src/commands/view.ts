import type { ViewDescription } from '#client';
import type { Command } from 'commander';
import { ExitCode } from '../exit-code.js';
import { printObject, printRows } from '../output.js';
import { withClient } from '../session.js';

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

export const registerViewCommands = (program: Command): void => {
  const view = program.command('view').description('the views and how far they are');
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
};
