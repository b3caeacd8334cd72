import { describe, expect, test } from '@jest/globals';
import { VIEW_DEFAULTS, asGroupId, asLogTime, asOffset, asTerm } from '#kernel';
import { ControlKind, encodeBatch, encodeControlBatch, stampBatch, type RecordInput } from '#wire';
import { MetaDirectory, parseTopicEntry } from './meta-directory.js';

const log = (...batches: (readonly RecordInput[] | null)[]): Buffer => {
  let next = 1;
  return Buffer.concat(
    batches.map((records) => {
      const batch =
        records === null
          ? encodeControlBatch(ControlKind.Noop, Buffer.alloc(0), 0)
          : encodeBatch(records, { createTime: 0 });
      stampBatch(batch, { firstOffset: asOffset(next), term: asTerm(1), logTime: asLogTime(1), group: asGroupId(0) });
      next += records?.length ?? 1;
      return batch;
    }),
  );
};

const topic = (name: string, partitions: number[], more: object = {}): RecordInput => ({
  key: Buffer.from(`topic/${name}`),
  value: Buffer.from(JSON.stringify({ name, partitions, replication: 3, voters: [1, 2, 3], ...more })),
});

describe('the directory of topics', () => {
  test('holds what was created and not deleted', () => {
    const directory = new MetaDirectory();
    const run = log(null, [topic('a', [1]), topic('b', [2, 3])], [{ key: Buffer.from('topic/a'), value: null }]);
    expect(directory.apply(run)).toBe(true);
    expect([...directory.topics.keys()]).toEqual(['b']);
    expect(directory.topics.get('b')).toEqual({
      name: 'b',
      partitions: [2, 3],
      replication: 3,
      retention: { ms: null, bytes: null },
      view: { kind: 'map', ...VIEW_DEFAULTS },
      voters: [1, 2, 3],
    });
    expect(directory.knows('a')).toBe(true);
    expect(directory.offset).toBe(4);
  });

  test('has defaults for settings of a view that are not said, and passes over a topic whose settings make no sense', () => {
    const directory = new MetaDirectory();
    const view = { kind: 'map', archive: true, defaultTtlMs: 5000, maxEntries: 10, later: 'unknown' };
    const wrong = [{ maxEntries: 0 }, { defaultTtlMs: '5s' }, { maxIdleMs: 1.5 }, { maxBytes: -1 }, { archive: 1 }];
    directory.apply(
      log([topic('a', [1], { view }), ...wrong.map((each, i) => topic(`w${i}`, [i + 2], { view: each }))]),
    );
    expect([...directory.topics.values()].map((each) => each.view)).toEqual([
      { kind: 'map', ...VIEW_DEFAULTS, archive: true, defaultTtlMs: 5000, maxEntries: 10 },
    ]);
  });

  test('gives group numbers that were never used, not even by deleted topics', () => {
    const directory = new MetaDirectory();
    expect(directory.nextGroup).toBe(1);
    directory.apply(log([topic('a', [1, 2, 7])], [{ key: Buffer.from('topic/a'), value: null }]));
    expect(directory.nextGroup).toBe(8);
  });

  test('passes over what it has, whatever way the log is cut into runs', () => {
    const run = log([topic('a', [1])], [topic('b', [2])]);
    const whole = new MetaDirectory();
    whole.apply(run);
    const twice = new MetaDirectory();
    twice.apply(run);
    expect(twice.apply(run)).toBe(false);
    expect([...twice.topics]).toEqual([...whole.topics]);
  });

  test('passes over records that are no topic', () => {
    const directory = new MetaDirectory();
    const odd: RecordInput[] = [
      { key: Buffer.from('topic/a'), value: Buffer.from('{') },
      { key: Buffer.from('topic/b'), value: Buffer.from('null') },
      { key: Buffer.from('member/1'), value: Buffer.from('{}') },
      { key: null, value: Buffer.from('{}') },
      { ...topic('other name', [1]), key: Buffer.from('topic/c') },
      topic('d', []),
      topic('e', [0]),
      topic('f', [1.5]),
      topic('g', [1], { voters: [] }),
      topic('h', [1], { view: { kind: 'odd' } }),
      topic('i', [1], { retention: { ms: -1 } }),
    ];
    expect(directory.apply(log(odd))).toBe(false);
    expect(directory.topics.size).toBe(0);
    expect(directory.nextGroup).toBe(1);
  });

  test('drops members it does not know', () => {
    const json = JSON.stringify({ name: 'a', partitions: [1], replication: 1, voters: [1], __proto__x: 1, extra: {} });
    expect(Object.keys(parseTopicEntry(json)!)).not.toContain('extra');
  });
});
