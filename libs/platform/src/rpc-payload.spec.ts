import { describe, expect, test } from '@jest/globals';
import type { ArgumentsHost } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { lastValueFrom, type Observable } from 'rxjs';
import { TidelineError } from '#kernel';
import { ProblemFilter } from './http/problem-filter.js';
import { toRpcException, toRpcPayload } from './rpc-payload.js';

describe('errors over Nest microservices', () => {
  test('keep code, outcome and details', () => {
    const error = new TidelineError('sequence-gap', 'expected 4, got 6', { details: { expected: 4 } });
    expect(toRpcPayload(error)).toEqual({
      status: 'error',
      code: 'sequence-gap',
      outcome: 'rejected',
      message: 'expected 4, got 6',
      details: { expected: 4 },
    });
    expect(toRpcException(error).getError()).toEqual(toRpcPayload(error));
  });

  test('hide the message of a defect', () => {
    expect(toRpcPayload(new Error('secret'))).toMatchObject({ code: 'internal', outcome: 'unknown' });
    expect(JSON.stringify(toRpcPayload(new Error('secret')))).not.toContain('secret');
  });

  test('leave an RpcException as it is', () => {
    const exception = new RpcException({ code: 'x' });
    expect(toRpcException(exception)).toBe(exception);
  });

  test('come out of the filter as an observable that fails with the payload', async () => {
    const host = { getType: () => 'rpc' } as unknown as ArgumentsHost;
    const result = new ProblemFilter().catch(new TidelineError('no-leader', 'none'), host) as Observable<never>;
    await expect(lastValueFrom(result)).rejects.toMatchObject({ code: 'no-leader', outcome: 'rejected' });
  });
});
