import {
  TidelineError,
  hashKey,
  partitionOf,
  randomBelow,
  randomChance,
  toTidelineError,
  type Offset,
  type Rng,
} from '#kernel';
import { encodeBatch, encodeOp, readAllFound, type FoundEntryMessage, type RecordInput } from '#wire';
import type { GatewayServices } from '../../apps/gateway/src/gateway-services.js';
import type { OperationInput, OperationOutput } from '../support/linearizability.js';
import type { Machine } from './machine.js';
import { TYPED_PREFIX } from './model-of-types.js';
import { EVENTS, THINGS } from './place.js';
import { LIMITED_KEYS } from './reference-view.js';
import type { World } from './world.js';
import type { WriteFate } from './write-ledger.js';

/** A client that hears nothing asks elsewhere, or gives up. */
const PATIENCE_MS = 5000;
const ATTEMPTS_MAX = 4;
/** Register keys live this long: what a checker has to search through stays small. */
const KEY_EPOCH_MS = 8000;
const REGISTERS = 4;
const EXPIRING_KEPT = 12;
const LIMITED_TTL_MS_MAX = 3000;

type Answer<T> = { readonly value: T } | { readonly error: TidelineError };

/** Keys with a lifetime that all clients look at. */
export class ExpiringKeys {
  readonly keys: string[] = [];

  add(key: string): void {
    this.keys.push(key);
    if (this.keys.length > EXPIRING_KEPT) this.keys.shift();
  }
}

interface SessionState {
  readonly id: number;
  sequence: number;
}

/**
 * A client program: one operation after the other, through whatever gateway, over connections that break. It retries under the same
 * idempotency key or sequence, gives up, and comes back; what it saw goes to the checkers.
 */
export class Client {
  completed = 0;
  /** Answers that were not errors. */
  served = 0;
  /** Answers that said that the session is no longer known. */
  evicted = 0;
  private written = 0;
  private gets = 0;
  private looks = 0;
  private stopped = false;
  private session: SessionState | null = null;
  /** Ends the register operation under way without an answer. */
  private abandon: (() => void) | null = null;
  private readonly owner: number;

  constructor(
    private readonly world: World,
    readonly number: number,
    private readonly rng: Rng,
    private readonly expiring: ExpiringKeys,
  ) {
    this.owner = 100 + number;
    this.think();
  }

  stop(): void {
    this.stopped = true;
  }

  /** The run is over: what was asked and not answered may have happened. */
  end(): void {
    this.abandon?.();
  }

  private think(): void {
    const { thinkMs } = this.world.swarm;
    this.world.queue.after(1 + (this.rng.nextU32() / 2 ** 32) * 2 * thinkMs, this.owner, () => {
      if (!this.stopped) this.act();
    });
  }

  private readonly done = (): void => {
    this.completed++;
    this.think();
  };

  private act(): void {
    const dice = randomBelow(this.rng, 100);
    if (dice < 50) this.register();
    else if (dice < 60) this.putExpiring();
    else if (dice < 72) this.readExpiring();
    else if (dice < 80) this.command();
    else if (dice < 91) this.append();
    else this.appendInSession();
  }

  private value(): string {
    const name = `c${this.number}.${this.written++}`;
    const bytes = randomBelow(this.rng, this.world.swarm.valueBytesMax);
    return bytes > name.length + 1 ? `${name}.${'x'.repeat(bytes - name.length - 1)}` : name;
  }

  private gatewayMachine(): Machine {
    const { machines } = this.world;
    return machines[randomBelow(this.rng, machines.length)];
  }

  /** One request to one gateway, one answer; `connection-lost` or `timeout` when none comes. */
  private ask<T>(run: (gateway: GatewayServices) => Promise<T>, done: (answer: Answer<T>) => void): void {
    const { network, queue } = this.world;
    const machine = this.gatewayMachine();
    let ended = false;
    const end = (answer: Answer<T>): void => {
      if (ended) return;
      ended = true;
      cancel();
      if ('value' in answer) this.served++;
      done(answer);
    };
    const cancel = queue.after(PATIENCE_MS, this.owner, () =>
      end({ error: new TidelineError('timeout', 'no answer') }),
    );
    const lost = (): void => end({ error: new TidelineError('connection-lost', 'the connection ended') });
    const answer = (value: Answer<T>): void => network.message(machine.id, this.owner, () => end(value), lost);
    network.message(
      this.owner,
      machine.id,
      () => {
        const { gateway, life } = machine;
        if (gateway === null) {
          answer({ error: new TidelineError('connection-lost', 'nobody listens') });
          return;
        }
        run(gateway).then(
          (value) => machine.life === life && answer({ value }),
          (error: unknown) => machine.life === life && answer({ error: toTidelineError(error) }),
        );
      },
      lost,
    );
  }

  /** Asks again, elsewhere, as long as the outcome is unknown and it may. `doubt`: an attempt may have had an effect nobody told of. */
  private insist<T>(
    attempts: number,
    run: (gateway: GatewayServices) => Promise<T>,
    done: (answer: Answer<T>, doubt: boolean) => void,
    doubt = false,
  ): void {
    this.ask(run, (answer) => {
      if ('value' in answer || attempts <= 1 || !answer.error.retriable) {
        done(answer, doubt);
        return;
      }
      const inDoubt = doubt || answer.error.outcome === 'unknown';
      this.world.queue.after(randomBelow(this.rng, 200), this.owner, () =>
        this.insist(attempts - 1, run, done, inDoubt),
      );
    });
  }

  private fateOf(answer: Answer<unknown>, doubt: boolean): WriteFate {
    if ('value' in answer) return 'acknowledged';
    return answer.error.outcome === 'rejected' && !doubt ? 'rejected' : 'unknown';
  }

  /* ---- registers: a key, values that are never repeated, linearizable reads ---- */

  private register(): void {
    const { queue, linearizability, ledger, trace } = this.world;
    const key = `r${randomBelow(this.rng, REGISTERS)}.${Math.floor(queue.now / KEY_EPOCH_MS)}`;
    const invokedAt = queue.now;
    const record = (input: OperationInput, output: OperationOutput): void => {
      this.abandon = null;
      const returnedAt = output.kind === 'unknown' ? Number.POSITIVE_INFINITY : queue.now;
      linearizability.add({ key, client: this.number, input, output, invokedAt, returnedAt });
      trace.note(`client ${this.number}: ${input.kind} ${key} ${brief(input)} → ${output.kind} ${brief(output)}`);
      this.done();
    };
    const rejected = (): void => {
      this.abandon = null;
      this.done();
    };
    const dice = randomBelow(this.rng, 100);
    const bytes = Buffer.from(key);
    if (dice < 45) {
      this.ask(
        (gateway) => this.linearizableGet(gateway, bytes),
        (answer) => {
          if ('error' in answer) record({ kind: 'get' }, { kind: 'unknown' });
          else {
            const { value: entry } = answer;
            record({ kind: 'get' }, { kind: 'value', value: entry === null ? null : entry.value.toString('latin1') });
          }
        },
      );
      return;
    }
    const idempotencyKey = randomChance(this.rng, 0.5) ? `${this.number}/${this.written}` : null;
    const attempts = idempotencyKey === null ? 1 : ATTEMPTS_MAX;
    const acks = randomChance(this.rng, 0.5) ? 'quorum' : 'applied';
    const options = { acks, idempotencyKey } as const;
    if (dice < 55) {
      this.written++;
      this.abandon = () => record({ kind: 'delete' }, { kind: 'unknown' });
      this.insist(
        attempts,
        (gateway) => gateway.writes.delete(THINGS, bytes, null, options),
        (answer, doubt) => {
          const fate = this.fateOf(answer, doubt);
          if (fate === 'rejected') rejected();
          else record({ kind: 'delete' }, { kind: fate === 'acknowledged' ? 'done' : 'unknown' });
        },
      );
      return;
    }
    const value = this.value();
    const ifAbsent = dice < 70;
    const input: OperationInput = { kind: ifAbsent ? 'put-if-absent' : 'put', value };
    this.abandon = () => record(input, { kind: 'unknown' });
    this.insist(
      attempts,
      (gateway) =>
        gateway.writes.put(
          THINGS,
          bytes,
          {
            value: Buffer.from(value, 'latin1'),
            contentType: null,
            ttlMs: null,
            condition: ifAbsent ? { kind: 'absent' } : null,
          },
          options,
        ),
      (answer, doubt) => {
        if ('error' in answer && answer.error.code === 'condition-failed') {
          record(input, { kind: 'condition-failed' });
          return;
        }
        const fate = this.fateOf(answer, doubt);
        const offset = 'value' in answer ? answer.value.offset : null;
        ledger.wrote({ topic: THINGS, value, fate, offset, once: true });
        if (fate === 'rejected') rejected();
        else record(input, { kind: fate === 'acknowledged' ? 'done' : 'unknown' });
        if (offset !== null && randomChance(this.rng, 0.2)) this.readOwn(bytes, offset);
      },
    );
  }

  /** Every other one together with another key, as a client does that asks for both in one turn. */
  private async linearizableGet(gateway: GatewayServices, key: Buffer): Promise<FoundEntryMessage | null> {
    const consistency = { kind: 'linearizable' } as const;
    if (this.gets++ % 2 === 0) return (await gateway.reads.get(THINGS, key, consistency)).entry;
    const partitions = this.world.swarm.partitions;
    const partition = partitionOf(hashKey(key), partitions);
    const keys = [Buffer.from(`r${this.gets}`), key];
    const { found } = await gateway.reads.getMany(
      { view: THINGS, partition, partitions, keys, bytesMax: 1024 },
      consistency,
    );
    const [, entry] = readAllFound(found, keys.length);
    if (entry === undefined) throw new TidelineError('not-ready', 'the key was not answered');
    return entry;
  }

  /** A session read sees the session's own writes. */
  private readOwn(key: Buffer, offset: Offset): void {
    this.ask(
      (gateway) => gateway.reads.get(THINGS, key, { kind: 'session', after: offset }),
      (answer) => {
        if ('error' in answer) return;
        this.world.durableReads.ownWrite(this.number, offset, answer.value.position.offset);
      },
    );
  }

  /* ---- keys with a lifetime ---- */

  private putExpiring(): void {
    const { queue, expiry, departedEntries, ledger } = this.world;
    const key = `t.c${this.number}.${this.written}`;
    const value = this.value();
    const ttlMs = 200 + randomBelow(this.rng, 4000);
    this.expiring.add(key);
    this.insist(
      ATTEMPTS_MAX,
      (gateway) =>
        gateway.writes.put(
          THINGS,
          Buffer.from(key),
          { value: Buffer.from(value, 'latin1'), contentType: null, ttlMs, condition: null },
          { acks: 'quorum', idempotencyKey: key },
        ),
      (answer, doubt) => {
        if ('value' in answer) {
          expiry.written(key, queue.now);
          departedEntries.wrote(key, value, queue.now);
        }
        const offset = 'value' in answer ? answer.value.offset : null;
        ledger.wrote({ topic: THINGS, value, fate: this.fateOf(answer, doubt), offset, once: true });
        this.done();
      },
    );
  }

  private readExpiring(): void {
    const { keys } = this.expiring;
    if (keys.length === 0) {
      this.think();
      return;
    }
    const key = keys[randomBelow(this.rng, keys.length)];
    if (randomChance(this.rng, 0.25)) {
      this.renewExpiring(key);
      return;
    }
    const invokedAt = this.world.queue.now;
    if (this.world.swarm.archive !== 'none' && this.looks++ % 2 === 0) {
      this.lookBack(key, invokedAt);
      return;
    }
    this.ask(
      (gateway) => this.linearizableGet(gateway, Buffer.from(key)),
      (answer) => {
        if ('value' in answer) {
          this.world.expiry.read(key, answer.value !== null, invokedAt, this.world.queue.now);
        }
        this.done();
      },
    );
  }

  /** As a read that also finds what has expired. */
  private lookBack(key: string, invokedAt: number): void {
    const { expiry, departedEntries, queue } = this.world;
    this.ask(
      (gateway) => gateway.reads.getOrDeparted(THINGS, Buffer.from(key), { kind: 'linearizable' }),
      (answer) => {
        if ('value' in answer) {
          departedEntries.looked(key, answer.value, invokedAt, `client ${this.number}`);
          expiry.read(key, answer.value.entry !== null, invokedAt, queue.now);
        }
        this.done();
      },
    );
  }

  /** Lengthens or ends its life, if it is still there; one that has expired stays so. */
  private renewExpiring(key: string): void {
    const [name, ...args] = [['touch'], ['expire', '3000'], ['expire', '100', 'lt'], ['expire', '0']][
      randomBelow(this.rng, 4)
    ];
    const op = encodeOp(
      name,
      args.map((arg) => Buffer.from(arg)),
    );
    const idempotencyKey = `l${this.number}/${this.written++}`;
    this.insist(
      ATTEMPTS_MAX,
      (gateway) => gateway.writes.command(THINGS, Buffer.from(key), op, idempotencyKey),
      () => this.done(),
    );
  }

  /* ---- commands of data types ---- */

  private command(): void {
    const { world, rng } = this;
    const element = `e${randomBelow(rng, 5)}`;
    const [type, name, ...args] = [
      ['counter', 'incrby', String(1 + randomBelow(rng, 9))],
      ['hash', 'hset', element, `${this.number}.${this.written}`],
      ['hash', 'hdel', element],
      ['set', 'sadd', element],
      ['list', 'rpush', `${this.number}.${this.written}`],
      ['list', 'lpop'],
    ][randomBelow(rng, 6)];
    const key = `${TYPED_PREFIX}${type}.${randomBelow(rng, 3)}`;
    const op = encodeOp(
      name,
      args.map((arg) => Buffer.from(arg)),
    );
    const idempotencyKey = `o${this.number}/${this.written++}`;
    this.insist(
      ATTEMPTS_MAX,
      (gateway) => gateway.writes.command(THINGS, Buffer.from(key), op, idempotencyKey),
      (answer) => {
        if ('value' in answer) {
          const { partition, offset, result } = answer.value;
          world.viewIsFold.answered(world.things[partition].group, offset, result!.value);
        }
        this.done();
      },
    );
  }

  /* ---- records of a log that has no view, or one that may hold only a few of them ---- */

  private event(value: string): RecordInput {
    const record = { value: Buffer.from(value, 'latin1') };
    if (!this.world.hasEvictions) return record;
    const key = Buffer.from(`k${randomBelow(this.rng, LIMITED_KEYS)}`);
    return {
      ...record,
      key,
      ...(randomChance(this.rng, 0.7) && { ttlMs: 1 + randomBelow(this.rng, LIMITED_TTL_MS_MAX) }),
    };
  }

  private append(): void {
    const values = Array.from({ length: 1 + randomBelow(this.rng, 3) }, () => this.value());
    const records = values.map((value) => this.event(value));
    const idempotencyKey = randomChance(this.rng, 0.4) ? `a${this.number}/${this.written}` : null;
    const acks = idempotencyKey === null && randomChance(this.rng, 0.15) ? 'leader' : 'quorum';
    this.insist(
      idempotencyKey === null ? 1 : ATTEMPTS_MAX,
      (gateway) => gateway.writes.append(EVENTS, records, { acks, idempotencyKey }),
      (answer, doubt) => {
        // What only the leader has may go with it.
        const known = this.fateOf(answer, doubt);
        const fate = acks === 'leader' && known === 'acknowledged' ? 'unknown' : known;
        for (const [i, value] of values.entries()) {
          const offset =
            'value' in answer && fate === 'acknowledged' ? answer.value.partitions[0].firstOffset + i : null;
          this.world.ledger.wrote({ topic: EVENTS, value, fate, offset, once: true });
        }
        this.done();
      },
    );
  }

  /* ---- a session of the client's own ---- */

  private appendInSession(): void {
    const { session } = this;
    if (session === null) {
      this.ask(
        (gateway) => gateway.log.openSession(this.world.events),
        (answer) => {
          if ('value' in answer) this.session = { id: answer.value, sequence: 0 };
          this.done();
        },
      );
      return;
    }
    const value = this.value();
    const sequence = ++session.sequence;
    const batch = encodeBatch([this.event(value)], {
      createTime: 1_700_000_000_000,
      session: { low: session.id, high: 0, sequence },
    });
    const run = (gateway: GatewayServices): Promise<{ firstOffset: Offset }> =>
      gateway.writes.appendBatch(this.world.events, Buffer.from(batch), { acks: 'quorum', timeoutMs: 3000 });
    const twice = randomChance(this.rng, 0.2);
    let open = twice ? 2 : 1;
    const offsets: Offset[] = [];
    let doubted = twice;
    let last: Answer<{ firstOffset: Offset }> | null = null;
    const ended = (answer: Answer<{ firstOffset: Offset }>, doubt: boolean): void => {
      if ('value' in answer) offsets.push(answer.value.firstOffset);
      doubted ||= doubt;
      last = answer;
      if (--open > 0) return;
      this.world.exactlyOnce.answeredTwice(`session ${session.id} sequence ${sequence}`, offsets);
      const fate = offsets.length > 0 ? 'acknowledged' : this.fateOf(last, doubted);
      this.world.ledger.wrote({ topic: EVENTS, value, fate, offset: offsets[0] ?? null, once: true });
      if ('error' in answer && answer.error.code === 'session-expired') this.evicted++;
      // A number whose fate is unknown or that was refused ends the session.
      if (fate !== 'acknowledged') this.session = null;
      this.done();
    };
    this.insist(ATTEMPTS_MAX, run, ended);
    if (twice) this.insist(ATTEMPTS_MAX, run, ended);
  }
}

const brief = (of: OperationInput | OperationOutput): string =>
  'value' in of ? (of.value === null ? 'nothing' : of.value.slice(0, 24)) : '';
