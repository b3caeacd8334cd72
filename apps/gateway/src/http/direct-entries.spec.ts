import { describe, expect, test } from '@jest/globals';
import { entryTargetOf } from './direct-entries.js';

describe('the target of a request for an entry', () => {
  test('is told apart where it is plain', () => {
    expect(entryTargetOf('/v1/views/default/entries/user:1')).toEqual({ view: 'default', key: 'user:1', query: '' });
    expect(entryTargetOf('/v1/views/a-b/entries/k?consistency=stale&x=%20')).toEqual({
      view: 'a-b',
      key: 'k',
      query: 'consistency=stale&x=%20',
    });
    expect(entryTargetOf('/v1/views/v/entries/k?')).toEqual({ view: 'v', key: 'k', query: '' });
  });

  test.each([
    '/v1/views/default/entries',
    '/v1/views/default/entries/',
    '/v1/views/default/entries?x=/entries/k',
    '/v1/views//entries/k',
    '/v1/views/default/entries/a/b',
    '/v1/views/default/entries/k/commands',
    '/v1/views/default/entries/k/',
    '/v1/views/default/entries/a%2Fb',
    '/v1/views/de%20fault/entries/k',
    '/v1/views/default/entries/k;v=1',
    '/v1/views/default/entries/k#part',
    '/v1/views/default/entries/grün',
    '/v1/views/default?/entries/k',
    '/v1/views/default/watch',
    '/v1/views',
    '//v1/views/default/entries/k',
    '*',
    '',
    `/v1/views/default/entries/${'k'.repeat(3000)}`,
  ])('is left to the router: %s', (target) => {
    expect(entryTargetOf(target)).toBeNull();
  });
});
