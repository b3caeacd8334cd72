import { TTL_MS_MAX, asLogTime } from '#kernel';
import type { Command, CommandState, DataType } from './data-type.js';

const CONDITIONS = ['nx', 'xx', 'gt', 'lt'];

const ttlOf = (arg: Buffer): number | null => {
  const text = arg.toString('latin1');
  const ttlMs = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return ttlMs <= TTL_MS_MAX ? ttlMs : null;
};

/** As of Redis: an entry without a TTL lives for ever, and so longer than any. */
const conditionHolds = (condition: string | undefined, { expiresAt }: CommandState, wanted: number): boolean => {
  if (condition === 'nx') return expiresAt === null;
  if (condition === 'xx') return expiresAt !== null;
  if (condition === 'gt') return expiresAt !== null && wanted > expiresAt;
  if (condition === 'lt') return expiresAt === null || wanted < expiresAt;
  return true;
};

/** 1: it is there, and its idle time begins anew. */
const touch: Command = {
  arity: { min: 0, max: 0 },
  validate: () => null,
  apply: (state, _args, { expiresAt }) =>
    state === null
      ? { effect: 'none', result: '0' }
      : { effect: 'renew', ...(expiresAt !== null && { expiresAt }), result: '1' },
};

/** Milliseconds from the command's log time on, and perhaps a condition; 1: so it is. */
const expire: Command = {
  arity: { min: 1, max: 2 },
  validate: ([ttl, condition]) =>
    ttlOf(ttl) === null
      ? `the time to live is a whole number of milliseconds from 0 to ${TTL_MS_MAX}`
      : condition === undefined || CONDITIONS.includes(condition.toString('latin1').toLowerCase())
        ? null
        : `the condition is one of ${CONDITIONS.join(', ')}`,
  apply: (state, [ttl, condition], { logTime }) => {
    const expiresAt = asLogTime(logTime + ttlOf(ttl)!);
    return state !== null && conditionHolds(condition?.toString('latin1').toLowerCase(), state, expiresAt)
      ? { effect: 'renew', expiresAt, result: '1' }
      : { effect: 'none', result: '0' };
  },
};

/** 1: it had a time to live, and has none any more. */
const persist: Command = {
  arity: { min: 0, max: 0 },
  validate: () => null,
  apply: (state) =>
    state === null || state.expiresAt === null
      ? { effect: 'none', result: '0' }
      : { effect: 'renew', expiresAt: null, result: '1' },
};

/** How long an entry lives, whatever its type: every map view knows these. Value, type and offset (ETag) stay as they are. */
export const lifetime: DataType = { name: '', commands: { touch, expire, persist } };
