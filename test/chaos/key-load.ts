import { randomBelow, type Rng } from '#kernel';
import type { OperationInput, OperationOutput } from '../support/linearizability.js';
import type { CallResult, ChaosClient } from './chaos-client.js';
import type { History } from './history.js';
import type { Pace } from './pace.js';
import type { Statistics } from './statistics.js';

const KEYS = 24;
/** Half of the operations go to the first few keys, so that clients meet. */
const HOT_KEYS = 6;
/** A key is given up after so many operations, or outcomes nobody knows, and another takes its place: the search in its history stays short. */
const OPERATIONS_PER_KEY_MAX = 200;
const UNKNOWN_PER_KEY_MAX = 5;

interface LiveKey {
  readonly name: string;
  operations: number;
  unknown: number;
}

/** put, delete, put-if-absent and linearizable get on a few dozen keys by several clients at once; every value is written once. */
export class KeyLoad {
  private readonly keys: LiveKey[];
  private generation = 0;
  private value = 0;
  private running = true;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly parts: {
      readonly clients: readonly ChaosClient[];
      /** These only read. */
      readonly readers: readonly ChaosClient[];
      readonly history: History;
      readonly statistics: Statistics;
      readonly pace: Pace;
      readonly readersPace: Pace;
      readonly rng: Rng;
    },
  ) {
    this.keys = Array.from({ length: KEYS }, () => this.newKey());
    const { clients, readers } = parts;
    this.workers = [
      ...clients.map((client, i) => this.work(client, i, parts.pace)),
      ...readers.map((client, i) => this.work(client, clients.length + i, parts.readersPace)),
    ];
  }

  private newKey(): LiveKey {
    return { name: `key-${this.generation++}`, operations: 0, unknown: 0 };
  }

  private pick(): LiveKey {
    const { rng } = this.parts;
    const slot = randomBelow(rng, 2) === 0 ? randomBelow(rng, HOT_KEYS) : randomBelow(rng, KEYS);
    const key = this.keys[slot];
    if (key.operations < OPERATIONS_PER_KEY_MAX && key.unknown < UNKNOWN_PER_KEY_MAX) return key;
    return (this.keys[slot] = this.newKey());
  }

  private pickInput(client: number): OperationInput {
    const lot = randomBelow(this.parts.rng, 100);
    if (lot < 45) return { kind: 'get' };
    if (lot < 55) return { kind: 'delete' };
    const value = `v${this.value++} of client ${client}`;
    return lot < 80 ? { kind: 'put', value } : { kind: 'put-if-absent', value };
  }

  private async work(client: ChaosClient, index: number, pace: Pace): Promise<void> {
    const onlyReads = index >= this.parts.clients.length;
    for (;;) {
      await pace.turn();
      if (!this.running) return;
      await this.operate(client, index, this.pick(), onlyReads ? { kind: 'get' } : this.pickInput(index));
    }
  }

  private async operate(client: ChaosClient, index: number, key: LiveKey, input: OperationInput): Promise<void> {
    const { history, statistics } = this.parts;
    key.operations++;
    const invokedAt = performance.now();
    const result = await call(client, key.name, input);
    const returnedAt = performance.now();
    const output = outputOf(input, result);
    if (output === null) {
      statistics.count(input.kind, 'rejected', (result as { code: string }).code);
      if ('value' in input) history.refused.set(input.value, key.name);
      return;
    }
    statistics.count(
      input.kind,
      output.kind === 'value' ? 'done' : output.kind,
      output.kind === 'unknown' ? (result as { code: string }).code : '',
    );
    if (output.kind === 'unknown' && input.kind !== 'get') key.unknown++;
    if (output.kind === 'done') statistics.acknowledged();
    history.add({
      key: key.name,
      client: index,
      input,
      output,
      invokedAt,
      returnedAt: output.kind === 'unknown' ? Number.POSITIVE_INFINITY : returnedAt,
    });
  }

  /** Begins no more operations and waits for those under way. */
  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
  }
}

const call = (client: ChaosClient, key: string, input: OperationInput): Promise<CallResult<string | null | void>> => {
  switch (input.kind) {
    case 'get':
      return client.get(key);
    case 'put':
      return client.put(key, input.value);
    case 'delete':
      return client.delete(key);
    case 'put-if-absent':
      return client.putIfAbsent(key, input.value);
  }
};

/** null: it had no effect and saw nothing, so it is no part of the history. */
const outputOf = (input: OperationInput, result: CallResult<string | null | void>): OperationOutput | null => {
  if (result.kind === 'ok')
    return input.kind === 'get' ? { kind: 'value', value: result.value as string | null } : { kind: 'done' };
  if (input.kind === 'get') return { kind: 'unknown' };
  if (result.code === 'condition-failed') return { kind: 'condition-failed' };
  return result.kind === 'rejected' ? null : { kind: 'unknown' };
};
