import { COMPUTED_VALUE_BYTES_MAX, type Command, type DataType } from '../../data-type.js';
import { integerOf, integersAt, isWord, rangeOf } from '../arguments.js';
import { answer, change } from '../effects.js';

/** Bits of the largest entry. */
export const BITS_MAX = COMPUTED_VALUE_BYTES_MAX * 8;
const NO_BYTES = Buffer.alloc(0);

const BITS_OF_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => {
  let bits = 0;
  for (let rest = byte; rest > 0; rest >>>= 1) bits += rest & 1;
  return bits;
});

const positionProblem = (at: Buffer): string | null => {
  const position = integerOf(at);
  return position !== null && position >= 0 && position < BITS_MAX
    ? null
    : `offset is a whole number from 0 to ${BITS_MAX - 1}`;
};

const bitProblem = (bit: Buffer): string | null => (isWord(bit, '0') || isWord(bit, '1') ? null : 'a bit is 0 or 1');

/** The first bit is the highest of the first byte. */
const bitAt = (bytes: Buffer, position: number): number =>
  position >>> 3 < bytes.length ? (bytes[position >>> 3] >>> (7 - (position & 7))) & 1 : 0;

const setbit: Command = {
  arity: { min: 2, max: 2 },
  validate: ([at, bit]) => positionProblem(at) ?? bitProblem(bit),
  apply: (state, [at, bit], record) => {
    const position = integerOf(at)!;
    const old = state?.value ?? NO_BYTES;
    const value = Buffer.alloc(Math.max(old.length, (position >>> 3) + 1));
    old.copy(value);
    const mask = 0x80 >>> (position & 7);
    if (isWord(bit, '1')) value[position >>> 3] |= mask;
    else value[position >>> 3] &= ~mask;
    return change(state, record, value, String(bitAt(old, position)));
  },
};

const getbit: Command = {
  arity: { min: 1, max: 1 },
  validate: ([at]) => positionProblem(at),
  apply: (state, [at]) => answer(String(state ? bitAt(state.value, integerOf(at)!) : 0)),
};

/** First and last bit of `[start end [byte|bit]]` among the arguments from `at` on; exclusive end. */
const bitRange = (args: readonly Buffer[], at: number, bytes: number): { from: number; to: number } => {
  const [start, end, unit] = args.slice(at);
  const bits = unit !== undefined && isWord(unit, 'bit');
  const { from, to } = rangeOf(start ?? ZERO, end ?? LAST, bits ? bytes * 8 : bytes);
  return bits ? { from, to } : { from: from * 8, to: to * 8 };
};
const ZERO = Buffer.from('0');
const LAST = Buffer.from('-1');

const rangeProblem = (args: readonly Buffer[], at: number): string | null =>
  integersAt([at, 'start'], [at + 1, 'end'])(args) ??
  (args[at + 2] === undefined || isWord(args[at + 2], 'byte') || isWord(args[at + 2], 'bit')
    ? null
    : 'the unit of a range is byte or bit');

const bitcount: Command = {
  arity: { min: 0, max: 3 },
  validate: (args) => (args.length === 1 ? 'a range has a start and an end' : rangeProblem(args, 0)),
  apply: (state, args) => {
    const bytes = state?.value ?? NO_BYTES;
    const { from, to } = bitRange(args, 0, bytes.length);
    let count = 0;
    for (let position = from; position < to;) {
      if ((position & 7) === 0 && position + 8 <= to) {
        count += BITS_OF_BYTE[bytes[position >>> 3]];
        position += 8;
      } else count += bitAt(bytes, position++);
    }
    return answer(String(count));
  },
};

const bitpos: Command = {
  arity: { min: 1, max: 4 },
  validate: (args) => bitProblem(args[0]) ?? rangeProblem(args, 1),
  apply: (state, args) => {
    const wanted = isWord(args[0], '1') ? 1 : 0;
    const bytes = state?.value ?? NO_BYTES;
    if (bytes.length === 0) return answer(wanted === 1 ? '-1' : '0');
    const { from, to } = bitRange(args, 1, bytes.length);
    const without = wanted === 1 ? 0 : 0xff;
    for (let position = from; position < to;) {
      if ((position & 7) === 0 && position + 8 <= to && bytes[position >>> 3] === without) position += 8;
      else if (bitAt(bytes, position) === wanted) return answer(String(position));
      else position++;
    }
    // Without an end the zeros beyond the last byte count, as in Redis.
    return answer(wanted === 0 && args.length < 3 && to > from ? String(bytes.length * 8) : '-1');
  },
};

/** Bits of a plain entry. */
export const bitmapType: DataType = {
  name: 'bitmap',
  entries: 'plain',
  commands: { setbit, getbit, bitcount, bitpos },
};
