import { describe, expect, test } from '@jest/globals';
import { checkLeaseWrites, checkLooks, compareArchive, expiredOf, type LoggedLease } from './lease-checks.js';
import type { LeaseLook, LeaseWrite } from './lease-load.js';

const lease = (offset: number, logTime: number, key: string, ttlMs = 1000): LoggedLease => ({
  offset,
  logTime,
  ttlMs,
  key,
  value: `${key}@${offset}`,
});

/** k lives from log time 1,000 to 2,000; then others are written. */
const LOG = [lease(1, 1000, 'k'), lease(2, 1500, 'a'), lease(3, 1900, 'b'), lease(5, 2500, 'c'), lease(9, 4000, 'd')];
const WRITES: LeaseWrite[] = LOG.map(({ key, value, offset, logTime }) => ({
  key,
  value,
  outcome: 'ok',
  offset,
  returnedAt: logTime,
}));

const look = (value: string | null, offset: number, invokedAt: number): LeaseLook => ({
  key: 'k',
  value,
  offset,
  invokedAt,
  returnedAt: invokedAt + 1,
});

describe('looks at a lease', () => {
  test('that see it while it lives and not afterwards pass', () => {
    const looks = [look(null, 0, 900), look('k@1', 1, 1001), look('k@1', 3, 1901), look(null, 5, 2600)];
    expect(checkLooks(LOG, WRITES, looks)).toEqual([]);
  });

  test('may find it gone while the log is less than a second before its end, and no sooner', () => {
    expect(checkLooks(LOG, [], [look(null, 2, 1501)])).toEqual([]);
    const long = [lease(1, 1000, 'k', 5000), ...LOG.slice(1)];
    expect(checkLooks(long, [], [look(null, 2, 1501)]).join()).toMatch(/lived until 6000, the log was at 1500/);
  });

  test('that see it when a write of a later log time had been acknowledged are told', () => {
    expect(checkLooks(LOG, WRITES, [look('k@1', 5, 2600)]).join()).toMatch(/expired at 2000, log time 2500/);
    expect(checkLooks(LOG, WRITES, [look('k@1', 5, 2400)])).toEqual([]);
  });

  test('that see it again after it had gone are told', () => {
    expect(checkLooks(LOG, [], [look(null, 3, 1950), look('k@1', 3, 1960)]).join()).toMatch(/it had been gone before/);
    expect(checkLooks(LOG, [], [look(null, 3, 1950), look('k@1', 3, 1950.5)])).toEqual([]);
  });

  test('that see another generation than the offset they name are told', () => {
    const log = [lease(1, 1000, 'k'), lease(2, 1100, 'k')];
    expect(checkLooks(log, [], [look('k@2', 2, 1200), look('k@1', 1, 1050)])).toEqual([]);
    expect(checkLooks(log, [], [look('k@1', 2, 1200)]).join()).toMatch(/the record there is k@2/);
    expect(checkLooks(log, [], [look('x', 0, 1200)]).join()).toMatch(/the record there is none/);
  });

  test('that reflect less than had been acknowledged before are told', () => {
    expect(checkLooks(LOG, WRITES, [look('k@1', 1, 1901)]).join()).toMatch(/when 3 had been acknowledged/);
  });
});

test('acknowledged leases are in the log where it was said, refused ones are not', () => {
  expect(checkLeaseWrites(LOG, WRITES)).toEqual([]);
  const [first] = WRITES;
  expect(checkLeaseWrites(LOG.slice(1), [first]).join()).toMatch(/acknowledged at 1 and is missing/);
  expect(checkLeaseWrites(LOG, [{ ...first, offset: 2 }]).join()).toMatch(/acknowledged at 2 and is at 1/);
  expect(checkLeaseWrites(LOG, [{ ...first, outcome: 'rejected' }]).join()).toMatch(/was refused/);
  expect(checkLeaseWrites([...LOG, { ...LOG[0], offset: 10 }], WRITES).join()).toMatch(/is there twice: 1 and 10/);
});

describe('an archive', () => {
  const log = [
    lease(1, 1000, 'renewed in time'),
    lease(2, 1500, 'renewed in time'),
    lease(3, 1600, 'late'),
    lease(4, 2600, 'late'),
  ];
  const expected = new Map(expiredOf(log).map((one) => [one.offset, one]));
  const archived = (one: LoggedLease) => ({ ...one, expiresAt: new Date(one.logTime + one.ttlMs).toISOString() });
  const whole = [log[2], log[1], log[3]].map(archived);

  test('holds each generation that expired, not one that was overwritten before', () => {
    expect([...expected.keys()]).toEqual([3, 2, 4]);
    expect(compareArchive(whole, expected)).toEqual([]);
  });

  test('in which one is missing, twice, too many or changed is told', () => {
    expect(compareArchive(whole.slice(1), expected)).toEqual(['late of 3 expired and is missing']);
    expect(compareArchive([...whole, whole[0]], expected)).toEqual(['late of 3 is there twice']);
    expect(compareArchive([...whole, archived(log[0])], expected).join()).toMatch(/of 1 is there and did not expire/);
    expect(compareArchive([{ ...whole[0], value: 'x' }, ...whole.slice(1)], expected).join()).toMatch(/is there as x/);
  });
});
