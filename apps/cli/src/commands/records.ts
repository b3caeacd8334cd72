import type { TailFrom } from '#client';
import type { Command } from 'commander';
import { UsageError } from '../exit-code.js';
import { printObject } from '../output.js';
import { asWrite, countOption, durationOption, withClient } from '../session.js';

interface AppendOptions {
  readonly key?: string;
  readonly type?: string;
  readonly ttl?: string;
  readonly partition?: string;
  readonly acks: string;
}

interface TailCommandOptions {
  readonly from: string;
  readonly partition?: string;
  readonly limit?: string;
}

const ACKS = ['none', 'leader', 'quorum'] as const;

export const registerRecordCommands = (program: Command): void => {
  program
    .command('append')
    .description('append a record to a topic')
    .argument('<topic>')
    .argument('<value>', 'the value; - reads it from standard input')
    .option('-k, --key <key>')
    .option('-t, --type <type>', 'event type')
    .option('--ttl <duration>', 'lifetime of the entry in the view')
    .option('-p, --partition <n>')
    .option('--acks <acks>', ACKS.join(', '), 'quorum')
    .action(async (topic: string, value: string, options: AppendOptions, command: Command) => {
      const acks = ACKS.find((one) => one === options.acks);
      if (!acks) throw new UsageError(`--acks ${options.acks}: ${ACKS.join(', ')}`);
      const record = {
        value: value === '-' ? await standardInput() : value,
        ...(options.key === undefined ? {} : { key: options.key }),
        ...(options.type === undefined ? {} : { type: options.type }),
        ...(options.ttl === undefined ? {} : { ttlMs: durationOption('--ttl', options.ttl) }),
      };
      const partition = partitionOption(options.partition);
      await withClient(command, async ({ client, format }) => {
        const [appended] = await asWrite(
          client.append(topic, [record], { acks, ...(partition === undefined ? {} : { partition }) }),
        );
        printObject(format, { ...appended });
      });
    });

  program
    .command('tail')
    .description('print records of a topic as they are committed, one JSON object a line')
    .argument('<topic>')
    .option('-f, --from <position>', 'earliest, latest, an offset (with --partition) or an ISO time', 'latest')
    .option('-p, --partition <n>')
    .option('-n, --limit <n>', 'stop after so many records')
    .action(async (topic: string, options: TailCommandOptions, command: Command) => {
      const from = fromOption(options.from);
      const partition = partitionOption(options.partition);
      const limit =
        options.limit === undefined
          ? Number.POSITIVE_INFINITY
          : countOption('--limit', options.limit, { min: 1, max: Number.MAX_SAFE_INTEGER });
      await withClient(command, async ({ client }) => {
        let printed = 0;
        const records = client.tail(topic, { from, ...(partition === undefined ? {} : { partition }) });
        await new Promise<void>((resolve, reject) => {
          const stop = (): void => {
            subscription.unsubscribe();
            process.off('SIGINT', stop);
            resolve();
          };
          const subscription = records.subscribe({
            next: (record) => {
              if (printed >= limit) return;
              printed++;
              console.log(
                JSON.stringify({
                  partition: record.partition,
                  offset: record.offset,
                  timestamp: new Date(record.timestamp).toISOString(),
                  ...(record.key ? { key: record.key.toString() } : {}),
                  ...(record.type === undefined ? {} : { type: record.type }),
                  value: record.value === null ? null : record.value.toString(),
                }),
              );
              if (printed >= limit) queueMicrotask(stop);
            },
            error: reject,
            complete: stop,
          });
          process.on('SIGINT', stop);
        });
      });
    });
};

const partitionOption = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : countOption('--partition', text, { min: 0, max: 255 });

const fromOption = (text: string): TailFrom => {
  if (text === 'earliest' || text === 'latest') return text;
  if (/^\d+$/.test(text)) return Number(text);
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new UsageError(`--from ${text}: earliest, latest, an offset or an ISO time`);
  return time;
};

const standardInput = async (): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};
