import { ByteReader, ByteWriter, assert } from '#kernel';
import {
  ARGS_UNLIMITED,
  type Command,
  type CommandEffect,
  type CommandRecord,
  type CommandState,
  type DataType,
} from '../../data-type.js';
import { integerOf, integersAt, isInteger, isWord, nothingWrong, rangeOf, scoreOf } from '../arguments.js';
import { answer, change, numberText, refuse } from '../effects.js';
import { elementOf, elementText, writeElement } from '../elements.js';

/**
 * State of a sorted set, ascending by score, then by the member's bytes:
 *
 *     u8 version (1) · varint count · count × (f64 score, little endian · varint length, member)
 *
 * No score is NaN or −0. A set without members is no entry.
 */
const VERSION = 1;

interface Member {
  readonly member: string;
  readonly score: number;
}

const membersOf = (state: CommandState | null): Member[] => {
  if (state === null) return [];
  const reader = new ByteReader(state.value);
  assert(reader.u8() === VERSION, 'a sorted set of an unknown version');
  const members: Member[] = [];
  for (let count = reader.varint(); count > 0; count--) {
    const score = reader.bytes(8).readDoubleLE(0);
    members.push({ score, member: reader.lengthPrefixed().toString('latin1') });
  }
  return members;
};

const scoresOf = (state: CommandState | null): Map<string, number> =>
  new Map(membersOf(state).map(({ member, score }) => [member, score]));

const ascending = (a: Member, b: Member): number =>
  a.score !== b.score ? (a.score < b.score ? -1 : 1) : a.member < b.member ? -1 : a.member === b.member ? 0 : 1;

const keep = (
  state: CommandState | null,
  record: CommandRecord,
  members: readonly Member[],
  result: string,
): CommandEffect => {
  if (members.length === 0) return { effect: 'delete', result };
  const writer = new ByteWriter(256).u8(VERSION).varint(members.length);
  for (const { member, score } of members) {
    writer.ensure(8);
    writer.buffer.writeDoubleLE(score, writer.position);
    writer.position += 8;
    writeElement(writer, member);
  }
  return change(state, record, writer.finish(), result);
};

const keepScores = (
  state: CommandState | null,
  record: CommandRecord,
  scores: ReadonlyMap<string, number>,
  result: string,
): CommandEffect =>
  keep(state, record, [...scores].map(([member, score]) => ({ member, score })).sort(ascending), result);

const scoreText = (score: number | undefined): string => (score === undefined ? 'null' : numberText(score));

/** `["member", …]`, or `[["member", score], …]`. */
const listText = (members: readonly Member[], withScores: boolean): string => {
  const texts = members.map(({ member, score }) =>
    withScores ? `[${elementText(member)},${numberText(score)}]` : elementText(member),
  );
  return `[${texts.join(',')}]`;
};

const FLAGS = ['nx', 'xx', 'gt', 'lt', 'ch'] as const;
type Flag = (typeof FLAGS)[number];

/** zadd's flags, and where its pairs begin. */
const flagsOf = (args: readonly Buffer[]): { flags: Set<Flag>; pairsAt: number } => {
  const flags = new Set<Flag>();
  let pairsAt = 0;
  for (; pairsAt < args.length; pairsAt++) {
    const flag = FLAGS.find((word) => isWord(args[pairsAt], word));
    if (!flag) break;
    flags.add(flag);
  }
  return { flags, pairsAt };
};

const zadd: Command = {
  arity: { min: 2, max: ARGS_UNLIMITED },
  validate: (args) => {
    const { flags, pairsAt } = flagsOf(args);
    if (flags.has('nx') && (flags.has('xx') || flags.has('gt') || flags.has('lt')))
      return 'nx does not go with xx, gt and lt';
    if (flags.has('gt') && flags.has('lt')) return 'gt does not go with lt';
    const rest = args.length - pairsAt;
    if (rest === 0 || rest % 2 !== 0) return 'zadd takes nx, xx, gt, lt, ch, then pairs of score and member';
    for (let i = pairsAt; i < args.length; i += 2)
      if (scoreOf(args[i]) === null) return 'a score is a decimal number, inf or -inf';
    return null;
  },
  apply: (state, args, record) => {
    const { flags, pairsAt } = flagsOf(args);
    const scores = scoresOf(state);
    let added = 0;
    let changed = 0;
    for (let i = pairsAt; i < args.length; i += 2) {
      const score = scoreOf(args[i])!;
      const member = elementOf(args[i + 1]);
      const old = scores.get(member);
      if (old === undefined) {
        if (flags.has('xx')) continue;
        added++;
      } else {
        if (flags.has('nx') || score === old) continue;
        if ((flags.has('gt') && score < old) || (flags.has('lt') && score > old)) continue;
        changed++;
      }
      scores.set(member, score);
    }
    const result = String(flags.has('ch') ? added + changed : added);
    return added + changed === 0 ? answer(result) : keepScores(state, record, scores, result);
  },
};

const zincrby: Command = {
  arity: { min: 2, max: 2 },
  validate: ([by]) => (scoreOf(by) === null ? 'increment is a decimal number, inf or -inf' : null),
  apply: (state, [by, memberArg], record) => {
    const scores = scoresOf(state);
    const member = elementOf(memberArg);
    const score = (scores.get(member) ?? 0) + scoreOf(by)! + 0;
    if (Number.isNaN(score)) return refuse('bad-request', 'the score would not be a number');
    scores.set(member, score);
    return keepScores(state, record, scores, numberText(score));
  },
};

const zrem: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args, record) => {
    const members = membersOf(state);
    const gone = new Set(args.map(elementOf));
    const left = members.filter(({ member }) => !gone.has(member));
    const removed = String(members.length - left.length);
    return removed === '0' ? answer(removed) : keep(state, record, left, removed);
  },
};

const zscore: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [member]) => answer(scoreText(scoresOf(state).get(elementOf(member)))),
};

const zmscore: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args) => {
    const scores = scoresOf(state);
    return answer(`[${args.map((member) => scoreText(scores.get(elementOf(member)))).join(',')}]`);
  },
};

const zcard: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(String(membersOf(state).length)),
};

const rank = (reverse: boolean): Command => ({
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [memberArg]) => {
    const members = membersOf(state);
    const member = elementOf(memberArg);
    const at = members.findIndex((one) => one.member === member);
    return answer(at < 0 ? 'null' : String(reverse ? members.length - 1 - at : at));
  },
});

const withScoresProblem = (word: Buffer | undefined): string | null =>
  word === undefined || isWord(word, 'withscores') ? null : 'after the range comes withscores or nothing';

/** By position. */
const range = (reverse: boolean): Command => ({
  arity: { min: 2, max: 3 },
  validate: (args) => integersAt([0, 'start'], [1, 'stop'])(args) ?? withScoresProblem(args[2]),
  apply: (state, [start, stop, withScores]) => {
    const members = membersOf(state);
    if (reverse) members.reverse();
    const { from, to } = rangeOf(start, stop, members.length);
    return answer(listText(members.slice(from, to), withScores !== undefined));
  },
});

/** A bound of a range of scores: a score, or `(` and a score that is not in the range. */
const boundOf = (bytes: Buffer): { readonly score: number; readonly exclusive: boolean } | null => {
  const exclusive = bytes[0] === 0x28;
  const score = scoreOf(exclusive ? bytes.subarray(1) : bytes);
  return score === null ? null : { score, exclusive };
};

const boundsProblem = (min: Buffer, max: Buffer): string | null =>
  boundOf(min) && boundOf(max) ? null : 'a bound is a decimal number, inf or -inf, with ( before it to leave it out';

const isWithin = (minArg: Buffer, maxArg: Buffer): ((member: Member) => boolean) => {
  const min = boundOf(minArg)!;
  const max = boundOf(maxArg)!;
  return ({ score }) =>
    (min.exclusive ? score > min.score : score >= min.score) &&
    (max.exclusive ? score < max.score : score <= max.score);
};

const zcount: Command = {
  arity: { min: 2, max: 2 },
  validate: ([min, max]) => boundsProblem(min, max),
  apply: (state, [min, max]) => answer(String(membersOf(state).filter(isWithin(min, max)).length)),
};

const zrangebyscore: Command = {
  arity: { min: 2, max: 3 },
  validate: ([min, max, withScores]) => boundsProblem(min, max) ?? withScoresProblem(withScores),
  apply: (state, [min, max, withScores]) =>
    answer(listText(membersOf(state).filter(isWithin(min, max)), withScores !== undefined)),
};

const zremrangebyscore: Command = {
  arity: { min: 2, max: 2 },
  validate: ([min, max]) => boundsProblem(min, max),
  apply: (state, [min, max], record) => {
    const members = membersOf(state);
    const within = isWithin(min, max);
    const left = members.filter((member) => !within(member));
    const removed = String(members.length - left.length);
    return removed === '0' ? answer(removed) : keep(state, record, left, removed);
  },
};

const zremrangebyrank: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'start'], [1, 'stop']),
  apply: (state, [start, stop], record) => {
    const members = membersOf(state);
    const { from, to } = rangeOf(start, stop, members.length);
    if (from === to) return answer('0');
    members.splice(from, to - from);
    return keep(state, record, members, String(to - from));
  },
};

const pop = (highest: boolean): Command => ({
  arity: { min: 0, max: 1 },
  validate: ([count]) =>
    count === undefined || (isInteger(count) && integerOf(count)! >= 0) ? null : 'count is a whole number from 0 on',
  apply: (state, [countArg], record) => {
    const members = membersOf(state);
    const count = Math.min(countArg === undefined ? 1 : integerOf(countArg)!, members.length);
    if (count === 0) return answer('[]');
    const popped = highest ? members.splice(members.length - count).reverse() : members.splice(0, count);
    return keep(state, record, members, listText(popped, true));
  },
});

export const sortedSetType: DataType = {
  name: 'sorted-set',
  contentType: 'application/vnd.tideline.sorted-set',
  commands: {
    zadd,
    zincrby,
    zrem,
    zscore,
    zmscore,
    zcard,
    zrank: rank(false),
    zrevrank: rank(true),
    zrange: range(false),
    zrevrange: range(true),
    zcount,
    zrangebyscore,
    zremrangebyscore,
    zremrangebyrank,
    zpopmin: pop(false),
    zpopmax: pop(true),
  },
};
