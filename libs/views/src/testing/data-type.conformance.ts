import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, asOffset } from '#kernel';
import { encodeOp, type RecordInput } from '#wire';
import type { CommandRecord, CommandState, DataType } from '../data-type.js';
import { MapView } from '../map-view.js';
import { restoreMapView } from '../map-view-restorer.js';
import { BatchSource } from './batch-source.js';

const ARGUMENTS = [
  '',
  '0',
  '1',
  '-1',
  '7',
  '2.5',
  '(1',
  'inf',
  'a',
  'b',
  'nx',
  'withscores',
  'before',
  '/a',
  '/a/0',
  '{"a":[1]}',
  '"t"',
];

/**
 * What any data type must do, whatever it is for. `words`: arguments that make sense to its commands, beside those that anyone would try.
 */
export const dataTypeConformance = (type: DataType, words: readonly string[] = []): void => {
  const argument = fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...ARGUMENTS, ...words).map((text) => Buffer.from(text)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)) },
  );
  const call = fc.record({
    name: fc.constantFrom(...Object.keys(type.commands)),
    args: fc.array(argument, { maxLength: 5 }),
  });

  test(`${type.name}: a command is pure, changes nothing it is given, and throws nothing`, () => {
    fc.assert(
      fc.property(fc.array(call, { maxLength: 30 }), (calls) => {
        let state: CommandState | null = null;
        for (const { name, args } of calls) {
          const command = type.commands[name];
          if (args.length < command.arity.min || args.length > command.arity.max) continue;
          const record: CommandRecord = {
            key: Buffer.from('key'),
            value: null,
            offset: asOffset(5),
            logTime: asLogTime(1000),
            expiresAt: null,
          };
          const given = structuredClone({ state, args });
          if (command.validate(args, record) !== null) continue;
          const effect = command.apply(state, args, record);
          expect(command.apply(state, args, record)).toEqual(effect);
          expect(structuredClone({ state, args })).toEqual(given);
          if (effect.effect === 'refuse') continue;
          if (effect.result !== undefined) JSON.parse(effect.result);
          if (effect.effect === 'delete') state = null;
          if (effect.effect === 'put') {
            const { value, expiresAt = null } = effect;
            state = { value: Buffer.from(value), expiresAt, offset: record.offset, logTime: record.logTime };
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  test(`${type.name}: replicas agree, also one that began from a snapshot`, () => {
    const key = fc.constantFrom('k', 'l').map((text) => Buffer.from(text));
    const record: fc.Arbitrary<RecordInput> = fc.oneof(
      {
        weight: 9,
        arbitrary: fc
          .tuple(key, call, fc.constantFrom(undefined, undefined, 3))
          .map(([key, { name, args }, ttlMs]) => ({ key, op: encodeOp(name, args), ...(ttlMs && { ttlMs }) })),
      },
      { weight: 1, arbitrary: fc.tuple(key, fc.option(argument)).map(([key, value]) => ({ key, value })) },
    );
    fc.assert(
      fc.property(
        fc.array(fc.array(record, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 12 }),
        (batches) => {
          const source = new BatchSource();
          const options = { dataTypes: [type] };
          const one = new MapView(options);
          let other = new MapView(options);
          for (const [i, records] of batches.entries()) {
            const batch = source.records(records);
            source.logTime += 1;
            one.applyBatches(batch);
            other.applyBatches(batch);
            if (i === batches.length >>> 1) other = restoreMapView(other.freeze(), options);
          }
          expect(other.digest).toBe(one.digest);
          const all = { firstOffset: asOffset(1), lastOffset: one.offset };
          expect(other.results(all)).toEqual(one.results(all));
          expect(one.defectCount).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
};
