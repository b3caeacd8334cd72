import { UsageError } from '../exit-code.js';
import type { Command } from 'commander';
import { printRows } from '../output.js';
import { startProgress } from '../progress.js';
import { restJson } from '../rest.js';
import { countOption, formatOf } from '../session.js';

interface Snapshot {
  readonly host: string;
  readonly partition: number;
  readonly offset: number;
  readonly entries: number;
  readonly slots: number;
  readonly bytes: number;
  readonly createdAt: string;
  readonly verified: boolean;
  readonly digest: string;
}

interface ViewOptions {
  readonly view: string;
  readonly partition?: string;
}

interface Restoring {
  readonly partition: number;
  readonly phase: string | null;
  readonly percent: number | null;
  readonly problem: string | null;
}

const LOOK_EVERY_MS = 500;

const rowOf = ({
  partition,
  offset,
  host,
  entries,
  slots,
  bytes,
  createdAt,
  verified,
  digest,
}: Snapshot): Record<string, unknown> => ({
  partition,
  offset,
  host,
  entries,
  slots,
  bytes,
  created: createdAt,
  verified,
  digest,
});

const pathOf = ({ view, partition }: ViewOptions, rest: string, more: Record<string, string> = {}): string => {
  const query = new URLSearchParams(more);
  if (partition !== undefined)
    query.set('partition', String(countOption('--partition', partition, { min: 0, max: 65_535 })));
  const text = query.toString();
  return `/v1/views/${encodeURIComponent(view)}/${rest}${text === '' ? '' : `?${text}`}`;
};

/** Prints what a request for the view's snapshots answers: those there are (GET), or those it has made (POST). */
const printSnapshots = async (method: 'GET' | 'POST', options: ViewOptions, command: Command): Promise<void> => {
  const { snapshots } = await restJson<{ snapshots: Snapshot[] }>(command, method, pathOf(options, 'snapshots'));
  printRows(formatOf(command), snapshots.map(rowOf));
};

/** `tideline snapshot list|create|restore`. */
export const registerSnapshotCommands = (program: Command): void => {
  const snapshot = program.command('snapshot').description('snapshots of a view');

  snapshot
    .command('list')
    .description('the snapshots that the hosts of the view have, newest first')
    .option('-v, --view <view>', 'the view', 'default')
    .action((options: ViewOptions, command: Command) => printSnapshots('GET', options, command));

  snapshot
    .command('create')
    .description('take one of each partition now, on the host that answers; the view goes on meanwhile')
    .option('-v, --view <view>', 'the view', 'default')
    .option('-p, --partition <n>', 'of this partition only')
    .action((options: ViewOptions, command: Command) => printSnapshots('POST', options, command));

  snapshot
    .command('restore')
    .description('build the view anew from a snapshot and the log, on the host that answers; it serves meanwhile')
    .option('-v, --view <view>', 'the view', 'default')
    .option('-p, --partition <n>', 'this partition only')
    .option('--offset <offset>', 'from the snapshot at this offset (with --partition); else the best')
    .option('--no-wait', 'do not wait until it is done')
    .action(async (options: ViewOptions & { offset?: string; wait: boolean }, command: Command) => {
      if (options.offset !== undefined && options.partition === undefined)
        throw new UsageError('--offset is that of one partition: name it with --partition');
      const offset =
        options.offset === undefined
          ? null
          : countOption('--offset', options.offset, { min: 1, max: Number.MAX_SAFE_INTEGER });
      const path = pathOf(options, 'snapshots/restore', offset === null ? {} : { offset: String(offset) });
      const { restored } = await restJson<{ restored: Record<string, unknown>[] }>(command, 'POST', path);
      if (options.wait) await untilServed(command, options.view);
      printRows(formatOf(command), restored);
    });
};

/** Shows how far the partitions are. */
const untilServed = async (command: Command, view: string): Promise<void> => {
  const progress = startProgress('restoring', 100);
  for (;;) {
    const path = `/v1/views/${encodeURIComponent(view)}`;
    const { restoring } = await restJson<{ restoring: Restoring[] }>(command, 'GET', path);
    const problem = restoring.find((each) => each.problem !== null)?.problem;
    if (typeof problem === 'string') throw new Error(problem);
    if (restoring.length === 0) break;
    progress.update(Math.min(...restoring.map(({ percent }) => percent ?? 0)));
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  progress.update(100);
  progress.finish();
};
