import { Controller, Inject } from '@nestjs/common';
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices';
import { TidelineError } from '#kernel';
import type { TidelineRpcContext } from '#net/nest';
import { parseJson } from '#platform';
import type { RecordInput } from '#wire';
import { Observable } from 'rxjs';
import { appendedOf, changeToJson, commandToJson, pageToJson, scanToJson, writtenToJson } from '../answers.js';
import { entityTag, writeCondition } from '../entry-precondition.js';
import { GatewayServices } from '../gateway-services.js';
import { CONTENT_TYPE, departedToJson, entryToJson, opOfJson, recordOfJson, recordToJson } from '../record-json.js';
import { recordsOfJson } from '../records-body.js';
import { CONSISTENCY_PARAMETERS, RequestParameters, objectOf } from '../request-parameters.js';
import {
  FETCH_PARAMETERS,
  SCAN_PARAMETERS,
  TAIL_PARAMETERS,
  WATCH_PARAMETERS,
  fetchRequestOf,
  scanRequestOf,
  tailRequestOf,
  watchRequestOf,
} from '../requests.js';
import { formatPosition } from '../stream-position.js';
import { WRITE_ACKS, checkIdempotencyKey, type WriteOptions } from '../write-path.js';

const DEFAULT_NAME = 'default';
const KEY_MEMBERS = ['key', 'keyBase64'];
const WRITE_MEMBERS = ['acks', 'idempotencyKey'];

/** What a payload holds came through JSON.parse alone: nothing it holds may hurt who writes or copies it later. */
const checked = (payload: unknown, depthMax: number): Record<string, unknown> =>
  objectOf(parseJson(JSON.stringify(payload ?? null), { depthMax }), 'the payload');

const writeOptions = (parameters: RequestParameters): WriteOptions => ({
  acks: parameters.choice('acks', WRITE_ACKS, 'quorum'),
  idempotencyKey: checkIdempotencyKey(parameters.text('idempotencyKey') ?? undefined, 'idempotencyKey'),
});

/** If-Match as a number, a tag or `*`. */
const tagOf = (parameters: RequestParameters, name: string): string | undefined => {
  const text = parameters.text(name);
  if (text === null) return undefined;
  return /^\d+$/.test(text) ? entityTag(Number(text)) : text;
};

/**
 * `{cmd: …}` for clients of Nest's own TCP transport. Payloads and answers are REST's, see docs/protocols.md; topics and views are `default` unless
 * named. What is thrown here reaches the caller as {code, outcome, message, details}.
 */
@Controller()
export class PatternsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @MessagePattern({ cmd: 'append' })
  async append(@Payload() payload: unknown): Promise<unknown> {
    const { records, ...rest } = this.checked(payload);
    const parameters = new RequestParameters(rest, ['topic', ...WRITE_MEMBERS]);
    const list = recordsOfJson({ records }, this.services.limits);
    const topic = parameters.text('topic') ?? DEFAULT_NAME;
    return appendedOf(await this.services.writes.append(topic, list, writeOptions(parameters)));
  }

  @MessagePattern({ cmd: 'fetch' })
  async fetch(@Payload() payload: unknown): Promise<unknown> {
    const parameters = new RequestParameters(this.checked(payload), ['topic', ...FETCH_PARAMETERS]);
    const { partition, start, ...options } = fetchRequestOf(parameters, this.services.limits);
    const topic = parameters.text('topic') ?? DEFAULT_NAME;
    const page = await this.services.records.read({ topic, partition }, start, options);
    return JSON.parse(pageToJson(page, partition, this.services));
  }

  @MessagePattern({ cmd: 'get' })
  async get(@Payload() payload: unknown): Promise<unknown> {
    const given = this.checked(payload);
    const parameters = new RequestParameters(given, ['view', 'archived', ...KEY_MEMBERS, ...CONSISTENCY_PARAMETERS]);
    const view = parameters.text('view') ?? DEFAULT_NAME;
    const key = this.keyOf(given);
    const { reads, isJson } = this.services;
    const asked = [view, key, parameters.consistency(), parameters.timeoutMs()] as const;
    const orArchived = parameters.flag('archived', false);
    const { entry, departed = null } = await (orArchived ? reads.getOrDeparted(...asked) : reads.get(...asked));
    if (entry !== null) return JSON.parse(entryToJson(entry, isJson));
    return departed === null ? null : JSON.parse(departedToJson(departed, isJson));
  }

  @MessagePattern({ cmd: 'set' })
  async set(@Payload() payload: unknown): Promise<unknown> {
    const { value, ...given } = this.checked(payload);
    const names = [
      'view',
      ...KEY_MEMBERS,
      'valueBase64',
      'contentType',
      'ttl',
      'ifMatch',
      'ifNoneMatch',
      ...WRITE_MEMBERS,
    ];
    const parameters = new RequestParameters(given, names);
    if (value === null) throw new TidelineError('bad-request', 'set takes a value; del removes the entry');
    const { key, keyBase64, valueBase64 } = given;
    const record = recordOfJson({ key, keyBase64, value, valueBase64 }, this.services.limits);
    const headerType = record.headers?.find((header) => header.name === CONTENT_TYPE)?.value;
    const write = await this.services.writes.put(
      parameters.text('view') ?? DEFAULT_NAME,
      keyOfRecord(record),
      {
        value: record.value as Buffer,
        contentType: parameters.text('contentType') ?? (headerType ? Buffer.from(headerType).toString() : null),
        ttlMs: parameters.ttlMs('ttl'),
        condition: writeCondition(tagOf(parameters, 'ifMatch'), tagOf(parameters, 'ifNoneMatch')),
      },
      writeOptions(parameters),
    );
    return JSON.parse(writtenToJson(write));
  }

  @MessagePattern({ cmd: 'del' })
  async del(@Payload() payload: unknown): Promise<unknown> {
    const given = this.checked(payload);
    const parameters = new RequestParameters(given, ['view', ...KEY_MEMBERS, 'ifMatch', ...WRITE_MEMBERS]);
    const write = await this.services.writes.delete(
      parameters.text('view') ?? DEFAULT_NAME,
      this.keyOf(given),
      writeCondition(tagOf(parameters, 'ifMatch'), undefined),
      writeOptions(parameters),
    );
    return JSON.parse(writtenToJson(write));
  }

  @MessagePattern({ cmd: 'command' })
  async command(@Payload() payload: unknown): Promise<unknown> {
    const { args, ...given } = this.checked(payload);
    const parameters = new RequestParameters(given, ['view', ...KEY_MEMBERS, 'op', 'idempotencyKey']);
    const op = opOfJson(parameters.text('op'), args, 'op');
    const { idempotencyKey } = writeOptions(parameters);
    const view = parameters.text('view') ?? DEFAULT_NAME;
    const write = await this.services.writes.command(view, this.keyOf(given), op, idempotencyKey);
    return JSON.parse(commandToJson(write));
  }

  @MessagePattern({ cmd: 'scan' })
  async scan(@Payload() payload: unknown): Promise<unknown> {
    const parameters = new RequestParameters(this.checked(payload), ['view', ...SCAN_PARAMETERS]);
    const request = scanRequestOf(parameters, this.services.limits);
    const view = parameters.text('view') ?? DEFAULT_NAME;
    const page = await this.services.reads.scan(view, request, parameters.consistency(), parameters.timeoutMs());
    return JSON.parse(scanToJson(page, request.values, this.services));
  }

  /** Items `{position, record}`; `lastEventId: position` goes on after one. */
  @MessagePattern({ cmd: 'tail' })
  tail(@Payload() payload: unknown, @Ctx() context: TidelineRpcContext): Observable<unknown> {
    const { services } = this;
    const parameters = new RequestParameters(this.checked(payload), ['topic', ...TAIL_PARAMETERS]);
    const request = tailRequestOf(parameters.text('topic') ?? DEFAULT_NAME, parameters);
    return new Observable((subscriber) => {
      const pace = context.getPace();
      const stream = services.tail(request, {
        record: ({ partition, record }) => {
          const json: unknown = JSON.parse(recordToJson(record, partition, services.isJson));
          subscriber.next({ position: stream.positionText, record: json });
          if (!pace.ready) pace.whenReady(() => stream.resume());
          return pace.ready;
        },
        end: (error) => (error === null ? subscriber.complete() : subscriber.error(error)),
      });
      return this.open(stream, (error) => subscriber.error(error));
    });
  }

  /** Items `{event: 'put', entry}`, `{event: 'delete' | 'expire', key, offset}` and once `{event: 'live', position}`. */
  @MessagePattern({ cmd: 'watch' })
  watch(@Payload() payload: unknown, @Ctx() context: TidelineRpcContext): Observable<unknown> {
    const { services } = this;
    const parameters = new RequestParameters(this.checked(payload), ['view', ...WATCH_PARAMETERS]);
    const request = watchRequestOf(parameters.text('view') ?? DEFAULT_NAME, parameters);
    return new Observable((subscriber) => {
      const pace = context.getPace();
      const stream = services.watch(request, {
        change: (change) => {
          const json = JSON.parse(changeToJson(change, services)) as object;
          subscriber.next(change.type === 'put' ? { event: 'put', entry: json } : { event: change.type, ...json });
          if (!pace.ready) pace.whenReady(() => stream.resume());
          return pace.ready;
        },
        live: (positions) => subscriber.next({ event: 'live', position: formatPosition(positions) }),
        end: (error) => (error === null ? subscriber.complete() : subscriber.error(error)),
      });
      return this.open(stream, (error) => subscriber.error(error));
    });
  }

  /** Starts a stream and counts it. Returns its teardown. */
  private open(stream: { start(): Promise<void>; stop(): void }, fail: (error: unknown) => void): () => void {
    const release = this.services.streams.add((error) => {
      stop();
      fail(error);
    });
    const stop = (): void => {
      release();
      stream.stop();
    };
    stream.start().catch((error: unknown) => {
      stop();
      fail(error);
    });
    return stop;
  }

  private checked(payload: unknown): Record<string, unknown> {
    return checked(payload, this.services.limits.jsonDepthMax);
  }

  private keyOf({ key, keyBase64 }: Record<string, unknown>): Buffer {
    return keyOfRecord(recordOfJson({ key, keyBase64, value: null }, this.services.limits));
  }
}

const keyOfRecord = ({ key }: RecordInput): Buffer => {
  if (key) return key as Buffer;
  throw new TidelineError('bad-request', 'key is needed', { details: { parameter: 'key' } });
};
