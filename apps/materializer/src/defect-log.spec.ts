import { expect, test } from '@jest/globals';
import { asOffset, type Clock } from '#kernel';
import { DefectLog } from './defect-log.js';

test('a defect is told once for each command it shows on, a few a minute, and the rest as a number', () => {
  let now = 0;
  const lines: string[] = [];
  const log = new DefectLog({ monotonicMs: () => now } as Clock, (line) => lines.push(line));
  const fail = (offset: number): void =>
    log.add({ view: 'v', partition: 2, name: 'max.observe', offset: asOffset(offset), error: new Error('boom') });
  fail(7);
  fail(7);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(/max\.observe failed at offset 7 of view v, partition 2.*boom/);
  for (let offset = 8; offset < 40; offset++) fail(offset);
  expect(lines).toHaveLength(10);
  now = 60_000;
  fail(40);
  expect(lines.slice(10)).toEqual(['data types failed on 23 commands more', expect.stringContaining('offset 40')]);
});
