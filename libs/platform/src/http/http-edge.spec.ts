import { connect, type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import {
  BadRequestException,
  Body,
  Controller,
  Get,
  HttpException,
  Injectable,
  Param,
  Post,
  Put,
  Res,
} from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import type { FastifyReply } from 'fastify';
import { ERROR_CODES, TidelineError, type ErrorCode } from '#kernel';
import { HealthRegistry } from '../health.js';
import { TidelineLogger } from '../logger.js';
import { Metrics } from '../metrics.js';
import { loadOptions } from '../options/options.js';
import { OPTIONS, PlatformModule } from '../platform-module.js';
import { createHttpEdge, type HttpEdge } from './http-adapter.js';
import { codeOfProblem, toProblem } from './problem-details.js';

@Injectable()
@Controller('v1')
class Routes {
  @Get('things/:key')
  get(@Param('key') key: string): unknown {
    return { key };
  }

  @Post('things')
  post(@Body() body: unknown): unknown {
    return { body };
  }

  @Put('things/:key')
  put(@Param('key') key: string): never {
    if (key === 'busy') throw new TidelineError('overloaded', 'the queue is full', { details: { retryAfterMs: 2500 } });
    if (key === 'late') throw new TidelineError('timeout', 'no answer within 10 s');
    if (key === 'nest') throw new BadRequestException(['a must be b', 'c must be d']);
    if (key === 'teapot') throw new HttpException('short and stout', 418);
    throw new Error('secret detail of a defect');
  }

  @Get('stream')
  stream(@Res() reply: FastifyReply): never {
    reply.raw.writeHead(200, { 'content-type': 'text/plain' });
    reply.raw.write('begun');
    throw new TidelineError('too-slow', 'dropped');
  }
}

const LIMITS = { requestBytesMax: 4096, keyBytesMax: 64, jsonDepthMax: 8, connectionsMax: 16 };

describe('the HTTP edge', () => {
  const log: string[] = [];
  let edge: HttpEdge;
  let app: NestFastifyApplication;
  let port: number;
  let base: string;

  beforeAll(async () => {
    const options = loadOptions({ app: 'standalone', argv: ['--base-port=0'], env: {} });
    const sink = { write: (line: string) => log.push(line) };
    const logger = new TidelineLogger({ logLevel: 'error', logFormat: 'json', sink });
    edge = createHttpEdge(LIMITS);
    const module = await Test.createTestingModule({
      imports: [PlatformModule.forRoot(options, { logger }), PlatformModule.forRoot(options)],
      controllers: [Routes],
    })
      .setLogger(logger)
      .compile();
    app = module.createNestApplication<NestFastifyApplication>(edge.adapter);
    app.useGlobalFilters(edge.filter);
    await app.listen(0, '127.0.0.1');
    ({ port } = app.getHttpServer().address() as AddressInfo);
    base = `http://127.0.0.1:${port}`;
    expect(app.get(OPTIONS)).toBe(options);
  });

  afterEach(() => {
    log.length = 0;
  });
  afterAll(() => app.close());

  const call = async (method: string, path: string, body?: string, type = 'application/json') => {
    const response = await fetch(base + path, {
      method,
      ...(body !== undefined && { body, headers: { 'content-type': type } }),
    });
    return {
      statusCode: response.status,
      isProblem: response.headers.get('content-type') === 'application/problem+json',
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown>,
    };
  };

  test('good requests pass', async () => {
    expect(await call('GET', '/v1/things/a%2Fb')).toMatchObject({ statusCode: 200, body: { key: 'a/b' } });
    expect((await call('POST', '/v1/things', '{"a":[1]}')).body).toEqual({ body: { a: [1] } });
  });

  test('an error of ours becomes a problem with its code, and its outcome on a write', async () => {
    const answer = await call('PUT', '/v1/things/busy');
    expect(answer).toMatchObject({ statusCode: 429, isProblem: true });
    expect(answer.headers.get('retry-after')).toBe('3');
    expect(answer.body).toEqual({
      type: 'urn:tideline:error:overloaded',
      title: 'a queue is full; slow down',
      status: 429,
      detail: 'the queue is full',
      code: 'overloaded',
      outcome: 'rejected',
      details: { retryAfterMs: 2500 },
    });
    expect(codeOfProblem(answer.body)).toBe('overloaded');
    expect((await call('PUT', '/v1/things/late')).body).toMatchObject({ status: 504, outcome: 'unknown' });
  });

  test('a defect is logged with its stack and says nothing of itself to the client', async () => {
    const answer = await call('PUT', '/v1/things/x');
    expect(answer).toMatchObject({ statusCode: 500, isProblem: true, body: { code: 'internal', outcome: 'unknown' } });
    expect(JSON.stringify(answer.body)).not.toContain('secret');
    expect(log.join('')).toContain('secret detail of a defect');
    expect(log.join('')).toContain('http-edge.spec');
  });

  test("Nest's own exceptions become problems", async () => {
    expect((await call('PUT', '/v1/things/nest')).body).toMatchObject({
      code: 'bad-request',
      detail: 'a must be b; c must be d',
    });
    expect((await call('PUT', '/v1/things/teapot')).body).toMatchObject({ status: 400, detail: 'short and stout' });
  });

  test('a path nobody has is 404, a method it does not have is 405 with Allow', async () => {
    expect(await call('GET', '/v1/nowhere')).toMatchObject({
      statusCode: 404,
      isProblem: true,
      body: { code: 'not-found' },
    });
    const answer = await call('DELETE', '/v1/things/a?x=1');
    expect(answer).toMatchObject({ statusCode: 405, isProblem: true, body: { code: 'method-not-allowed' } });
    expect(answer.headers.get('allow')).toBe('GET, HEAD, PUT');
    expect((await call('GET', '/v1/things')).headers.get('allow')).toBe('POST');
  });

  test.each([
    ['malformed-json', 400, '{"a":'],
    ['malformed-json', 400, ''],
    ['too-deep', 400, '['.repeat(9) + ']'.repeat(9)],
    ['unsafe-key', 400, '{"__proto__":1}'],
    ['request-too-large', 413, JSON.stringify('x'.repeat(5000))],
  ])('a body that is %s is answered with %d', async (code, status, text) => {
    const answer = await call('POST', '/v1/things', text);
    expect(answer).toMatchObject({ statusCode: status, isProblem: true, body: { code, outcome: 'rejected' } });
  });

  test('a content type no route takes is 415', async () => {
    expect(await call('POST', '/v1/things', 'a', 'text/csv')).toMatchObject({
      statusCode: 415,
      isProblem: true,
      body: { code: 'unsupported-media-type' },
    });
  });

  test('a URL that does not decode and a key that is too long are problems too', async () => {
    expect(await call('GET', '/v1/things/%ZZ')).toMatchObject({ statusCode: 400, isProblem: true });
    expect(await call('GET', `/v1/things/${'%61'.repeat(64)}`)).toMatchObject({ statusCode: 200 });
    expect(await call('GET', `/v1/things/${'a'.repeat(300)}`)).toMatchObject({
      statusCode: 413,
      isProblem: true,
      body: { code: 'key-too-large' },
    });
  });

  test('bytes that are no HTTP are answered and the connection closed', async () => {
    const answer = await new Promise<string>((resolve, reject) => {
      let text = '';
      const socket = connect(port, '127.0.0.1', () => socket.write('\u0016\u0003\u0001 hello\r\n\r\n'));
      socket.on('data', (data) => (text += data.toString()));
      socket.on('end', () => resolve(text));
      socket.on('error', reject);
    });
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(JSON.parse(answer.split('\r\n\r\n')[1])).toMatchObject({ code: 'bad-request', status: 400 });
  });

  test('a stream that has begun is cut short', async () => {
    const response = await fetch(`${base}/v1/stream`);
    await expect(response.text()).rejects.toThrow();
  });

  test('probes and metrics are served, and a failing check makes the node not ready', async () => {
    const health = app.get(HealthRegistry);
    expect(await call('GET', '/livez')).toMatchObject({ statusCode: 200, body: { status: 'live' } });
    expect(await call('GET', '/readyz')).toMatchObject({ statusCode: 200, body: { status: 'ready' } });
    const remove = health.register('leader', () => ({ ok: false, detail: 'default/0 has no leader' }));
    expect(await call('GET', '/readyz?verbose')).toMatchObject({
      statusCode: 503,
      body: { status: 'not-ready', checks: [{ name: 'leader', ok: false, detail: 'default/0 has no leader' }] },
    });
    remove();
    app.get(Metrics).gauge('tideline_raft_term').set({ topic: 'default', partition: '0' }, 7);
    const metrics = await fetch(`${base}/metrics`);
    expect(metrics.headers.get('content-type')).toContain('text/plain');
    expect(await metrics.text()).toContain(
      'tideline_raft_term{topic="default",partition="0",node="1",region="local"} 7',
    );
  });

  test('a draining node refuses work and still answers probes', async () => {
    edge.drain();
    expect(await call('GET', '/v1/things/a')).toMatchObject({
      statusCode: 503,
      isProblem: true,
      body: { code: 'shutting-down' },
    });
    expect(await call('GET', '/readyz')).toMatchObject({ statusCode: 200 });
  });
});

describe('toProblem', () => {
  const DOCUMENTED = new Set([400, 401, 403, 404, 405, 409, 412, 413, 415, 429, 500, 503, 504]);

  test('gives every code one of the documented statuses', () => {
    for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
      for (const write of [true, false]) {
        const { status, body } = toProblem(new TidelineError(code, 'x'), { write });
        expect(DOCUMENTED).toContain(status);
        expect(body.status).toBe(status);
        expect('outcome' in body).toBe(write);
      }
    }
  });

  test('on a write 504 means unknown and nothing else means it, except a defect', () => {
    for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
      for (const outcome of ['rejected', 'unknown'] as const) {
        const { status } = toProblem(new TidelineError(code, 'x', { outcome }), { write: true });
        if (status !== 500) expect(status === 504).toBe(outcome === 'unknown');
      }
    }
  });

  test('tells when to come back where that may help', () => {
    const headersOf = (code: ErrorCode) => toProblem(new TidelineError(code, 'x'), { write: true }).headers;
    expect(headersOf('no-leader')['retry-after']).toBe('1');
    expect(headersOf('overloaded')['retry-after']).toBe('1');
    expect(headersOf('storage-damaged')).not.toHaveProperty('retry-after');
    expect(headersOf('unauthorized')['www-authenticate']).toBe('Bearer');
  });
});
