import { describe, expect, test } from '@jest/globals';
import { BUILT_IN_TYPES, MapView, type Command, type DataType } from '#views';
import { TypedEntry } from '../../../libs/views/src/testing/index.js';
import { dataTypeConformance } from '../../../libs/views/src/testing/data-type.conformance.js';

/** The largest number seen, and how many were: the example of docs/data-types.md. */
const observe: Command = {
  arity: { min: 1, max: 1 },
  validate: ([number]) => (/^\d{1,9}$/.test(number.toString('latin1')) ? null : 'a number has 1 to 9 digits'),
  apply: (state, [number], record) => {
    const old = state
      ? { most: state.value.readUInt32LE(0), count: state.value.readUInt32LE(4) }
      : { most: 0, count: 0 };
    const value = Buffer.alloc(8);
    value.writeUInt32LE(Math.max(old.most, Number(number.toString('latin1'))), 0);
    value.writeUInt32LE(old.count + 1, 4);
    const expiresAt = record.expiresAt ?? state?.expiresAt ?? null;
    return { effect: 'put', value, expiresAt, result: String(value.readUInt32LE(0)) };
  },
};
const maximum: DataType = {
  name: 'maximum',
  contentType: 'application/vnd.example.maximum',
  commands: { 'max.observe': observe },
};

describe('a data type from outside the library', () => {
  dataTypeConformance(maximum, ['12', '999999999']);

  test('works beside those that are built in', () => {
    const e = new TypedEntry([...BUILT_IN_TYPES, maximum]);
    expect([e.run('max.observe', 5), e.run('max.observe', 3), e.run('incr')]).toEqual([5, 5, 'wrong-type']);
    expect([e.problem('max.observe', 'x'), e.run('max.observe', 'x'), e.problem('incr')]).toEqual([
      'bad-request',
      'bad-request',
      null,
    ]);
    expect(e.entry?.contentType).toBe('application/vnd.example.maximum');
  });

  test('cannot take the name of a command that is there', () => {
    expect(
      () => new MapView({ dataTypes: [...BUILT_IN_TYPES, { name: 'mine', commands: { incr: observe } }] }),
    ).toThrow('incr');
  });
});

describe('a data type with defects', () => {
  const broken = (apply: Command['apply']): Command => ({ arity: { min: 0, max: 0 }, validate: () => null, apply });
  const defective: DataType = {
    name: 'defective',
    commands: {
      works: broken(() => ({ effect: 'put', value: Buffer.from('fine'), result: '1' })),
      throws: broken(() => {
        throw new Error(`differs from host to host: ${Math.random()}`);
      }),
      spoils: broken((state, _args, record) => {
        state?.value.fill(0);
        record.key.fill(0);
        throw new Error('after it has written where it must not');
      }),
      'throws-nothing': broken(() => {
        // oxlint-disable-next-line no-throw-literal
        throw undefined as unknown as Error;
      }),
      'validate-throws': { ...broken(() => ({ effect: 'none' })), validate: () => JSON.parse('{') as null },
      'puts-text': broken(() => ({ effect: 'put', value: 'text' as unknown as Buffer })),
      'gives-a-promise': broken(() => Promise.resolve({ effect: 'none' }) as never),
      'gives-nothing': broken(() => undefined as never),
      'puts-too-much': broken(() => ({ effect: 'put', value: Buffer.alloc(1024 * 1024 + 1) })),
      'says-too-much': broken(() => ({ effect: 'delete', result: `"${'x'.repeat(9_000_000)}"` })),
    },
  };
  const names = Object.keys(defective.commands).filter((name) => name !== 'works');

  test.each(names)('is contained: %s has no effect and the view goes on', (name) => {
    const e = new TypedEntry([defective]);
    e.run('works');
    const { offset } = e.entry!;
    expect(['internal', 'record-too-large']).toContain(e.run(name));
    expect(e.entry).toMatchObject({ offset, value: Buffer.from('fine') });
    expect(e.run('works')).toBe(1);
  });

  test('is reported, and replicas agree on the results', () => {
    const reported: string[] = [];
    const e = new TypedEntry([defective]);
    const replica = new MapView({ dataTypes: [defective], onDefect: (_error, { name }) => reported.push(name) });
    const apply = e.view.applyBatches.bind(e.view);
    e.view.applyBatches = (batches) => {
      apply(batches);
      replica.applyBatches(batches);
    };
    const results = names.map((name) => [e.apply('works'), e.apply(name)]);
    expect(reported).toEqual(names.slice(0, 7));
    expect([e.view.defectCount, replica.defectCount]).toEqual([7, 7]);
    expect(replica.digest).toBe(e.view.digest);
    const range = { firstOffset: 1 as never, lastOffset: e.view.offset };
    expect(replica.results(range)).toEqual(results.flat());
  });
});
