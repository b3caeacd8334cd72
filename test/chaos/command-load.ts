import { randomBelow, randomChance, type Rng } from '#kernel';
import type { CallResult, ChaosClient, CommandResult } from './chaos-client.js';
import type { Findings } from './final-checks.js';
import type { Pace } from './pace.js';
import { RestChaosClient } from './rest-client.js';
import type { Statistics } from './statistics.js';

const COUNTERS = 3;
/** A list is encoded anew by every push: a full one is left and another begun. */
const PUSHES_PER_LIST = 200;
/** Of the commands made by REST, the share that is sent once more, under the same key, after its answer. */
const AGAIN_SHARE = 0.1;

type Fate = CallResult<CommandResult>;

/** One command, when it was under way and what became of it. */
interface Done {
  readonly key: string;
  readonly value: string;
  readonly invokedAt: number;
  readonly returnedAt: number;
  readonly fate: Fate;
}

/**
 * Commands of data types, which show by their own results whether they took effect once: `incr` gives every caller another number, and `rpush` says
 * in which place of the list the value, pushed once, must be found at the end.
 */
export class CommandLoad {
  readonly counted: Done[] = [];
  readonly pushed: Done[] = [];
  /** Answers to commands sent again that were others than the first. */
  readonly changed: string[] = [];
  repeated = 0;
  private pushes = 0;
  private running = true;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly parts: {
      readonly clients: readonly ChaosClient[];
      readonly statistics: Statistics;
      readonly pace: Pace;
      readonly rng: Rng;
    },
  ) {
    this.workers = parts.clients.map((client) => this.work(client));
  }

  private async work(client: ChaosClient): Promise<void> {
    const { rng, pace } = this.parts;
    for (;;) {
      await pace.turn();
      if (!this.running) return;
      if (randomChance(rng, 0.5)) await this.count(client);
      else await this.push(client);
    }
  }

  private async count(client: ChaosClient): Promise<void> {
    const key = `count-${randomBelow(this.parts.rng, COUNTERS)}`;
    await this.operate(client, this.counted, { key, op: 'incr', args: [] }, '');
  }

  private async push(client: ChaosClient): Promise<void> {
    const n = this.pushes++;
    const key = `list-${Math.floor(n / PUSHES_PER_LIST)}`;
    const value = `push ${n}`;
    await this.operate(client, this.pushed, { key, op: 'rpush', args: [value] }, value);
  }

  private async operate(
    client: ChaosClient,
    into: Done[],
    command: { readonly key: string; readonly op: string; readonly args: readonly string[] },
    value: string,
  ): Promise<void> {
    const { statistics, rng } = this.parts;
    const invokedAt = performance.now();
    const idempotencyKey = client instanceof RestChaosClient ? client.nextIdempotencyKey() : null;
    const send = (): Promise<Fate> =>
      client instanceof RestChaosClient && idempotencyKey !== null
        ? client.commandUnder(idempotencyKey, command)
        : client.command(command);
    const fate = await send();
    into.push({ key: command.key, value, invokedAt, returnedAt: performance.now(), fate });
    statistics.count(command.op, fate.kind === 'ok' ? 'done' : fate.kind, fate.kind === 'ok' ? '' : fate.code);
    if (fate.kind !== 'ok') return;
    statistics.acknowledged();
    if (idempotencyKey === null || !randomChance(rng, AGAIN_SHARE)) return;
    const again = await send();
    if (again.kind !== 'ok') return;
    this.repeated++;
    if (again.value.offset !== fate.value.offset || again.value.result !== fate.value.result)
      this.changed.push(
        `${command.op} on ${command.key} by ${client.name} was answered with ${JSON.stringify(fate.value)}, and sent again with ${JSON.stringify(again.value)}`,
      );
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
  }
}

/** Compares what callers were told with what is there now. */
export const checkCommands = async (load: CommandLoad, client: ChaosClient): Promise<Findings> => {
  const findings = [...load.changed];
  for (const [key, commands] of byKey(load.counted)) {
    const end = await client.get(key);
    if (end.kind === 'ok') findings.push(...checkCounter(key, commands, Number(end.value ?? 0)));
    else findings.push(`${key} could not be read at the end: ${end.code}`);
  }
  for (const [key, commands] of byKey(load.pushed)) {
    const end = await client.command({ key, op: 'lrange', args: ['0', '-1'] });
    if (end.kind === 'ok') findings.push(...checkList(key, commands, end.value.result as readonly string[]));
    else findings.push(`${key} could not be read at the end: ${end.code}`);
  }
  return findings;
};

const byKey = (commands: readonly Done[]): Map<string, Done[]> => {
  const map = new Map<string, Done[]>();
  for (const command of commands) {
    const list = map.get(command.key);
    if (list) list.push(command);
    else map.set(command.key, [command]);
  }
  return map;
};

/** Every acknowledged `incr` has a number of its own, a later one a larger one, and the counter stands where they lead. */
export const checkCounter = (key: string, commands: readonly Done[], end: number): Findings => {
  const findings: string[] = [];
  const acknowledged = commands.flatMap(({ fate, invokedAt, returnedAt }) =>
    fate.kind === 'ok' ? [{ number: fate.value.result as number, invokedAt, returnedAt }] : [],
  );
  const unknown = commands.filter(({ fate }) => fate.kind === 'unknown').length;
  if (end < acknowledged.length || end > acknowledged.length + unknown)
    findings.push(
      `${key} is ${end} after ${acknowledged.length} acknowledged increments and ${unknown} of unknown outcome`,
    );
  const seen = new Set<number>();
  for (const { number } of acknowledged) {
    if (seen.has(number)) findings.push(`${key}: two increments were answered with ${number}`);
    if (!(number >= 1 && number <= end)) findings.push(`${key}: an increment was answered with ${number} of ${end}`);
    seen.add(number);
  }
  // By number; whoever has a larger one must not have been answered before one with a smaller one began.
  acknowledged.sort((a, b) => a.number - b.number);
  let begun = Number.NEGATIVE_INFINITY;
  let latest = 0;
  for (const { number, invokedAt, returnedAt } of acknowledged) {
    if (returnedAt < begun)
      findings.push(`${key}: the increment to ${number} was answered before the one to ${latest} began`);
    if (invokedAt > begun) [begun, latest] = [invokedAt, number];
  }
  return findings;
};

/** Every acknowledged push is where its answer said, refused ones are nowhere, and nothing is there twice. */
export const checkList = (key: string, commands: readonly Done[], end: readonly string[] | null): Findings => {
  const findings: string[] = [];
  const list = end ?? [];
  const places = new Map<string, number>();
  for (const [place, value] of list.entries()) {
    if (places.has(value)) findings.push(`${key}: ${value} is there twice, at ${places.get(value)} and ${place}`);
    places.set(value, place);
  }
  for (const { value, fate } of commands) {
    const place = places.get(value);
    if (fate.kind === 'rejected' && place !== undefined) findings.push(`${key}: ${value} was refused and is there`);
    if (fate.kind === 'ok' && place !== (fate.value.result as number) - 1)
      findings.push(
        `${key}: ${value} was acknowledged as number ${String(fate.value.result)} and is ${place === undefined ? 'missing' : `number ${place + 1}`}`,
      );
    places.delete(value);
  }
  for (const value of places.keys()) findings.push(`${key}: ${value} was never pushed and is there`);
  return findings;
};
