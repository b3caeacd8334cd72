/**
 * LZ4's block format in plain JavaScript, to see what it would cost here: no binding is needed for it, and none comes with Node.
 * https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
 *
 *     sequence = u8 literals (high 4 bits), match length − 4 (low 4 bits) · more bytes of the first · literals · u16 distance · more bytes of the second
 *
 * 15 in either half: bytes are added up to and including the first below 255. The last sequence has literals only: at least the last 5 bytes, and no match
 * begins within the last 12.
 */
const HASH_BITS = 14;
const MATCH_MIN = 4;
const LAST_LITERALS = 5;
const MATCH_END_DISTANCE = 12;
const DISTANCE_MAX = 65_535;

const table = new Int32Array(1 << HASH_BITS);

const writeLength = (out: Buffer, at: number, length: number): number => {
  for (; length >= 255; length -= 255) out[at++] = 255;
  out[at++] = length;
  return at;
};

export const lz4Compress = (source: Buffer): Buffer => {
  const out = Buffer.allocUnsafe(source.length + Math.ceil(source.length / 255) + 16);
  table.fill(-1);
  const limit = source.length - MATCH_END_DISTANCE;
  const word = (at: number): number =>
    source[at] | (source[at + 1] << 8) | (source[at + 2] << 16) | (source[at + 3] << 24);
  let to = 0;
  let anchor = 0;
  const sequence = (end: number, match: number): number => {
    const literals = end - anchor;
    const token = to++;
    if (literals >= 15) to = writeLength(out, to, literals - 15);
    source.copy(out, to, anchor, end);
    to += literals;
    return (out[token] = (Math.min(literals, 15) << 4) | Math.min(match, 15));
  };
  for (let at = 0; at < limit;) {
    const value = word(at);
    const slot = Math.imul(value, 2_654_435_761) >>> (32 - HASH_BITS);
    const candidate = table[slot];
    table[slot] = at;
    if (candidate < 0 || at - candidate > DISTANCE_MAX || word(candidate) !== value) {
      // The longer nothing is found the larger the steps.
      at += 1 + ((at - anchor) >> 6);
      continue;
    }
    let length = MATCH_MIN;
    const most = source.length - LAST_LITERALS - at;
    while (length < most && source[candidate + length] === source[at + length]) length++;
    sequence(at, length - MATCH_MIN);
    out[to++] = (at - candidate) & 255;
    out[to++] = (at - candidate) >> 8;
    if (length - MATCH_MIN >= 15) to = writeLength(out, to, length - MATCH_MIN - 15);
    at += length;
    anchor = at;
  }
  sequence(source.length, 0);
  return out.subarray(0, to);
};

/** Of a block that `lz4Compress` has made: it trusts it. */
export const lz4Decompress = (block: Buffer, length: number): Buffer => {
  const out = Buffer.allocUnsafe(length);
  let at = 0;
  let to = 0;
  const more = (count: number): number => {
    if (count < 15) return count;
    let byte: number;
    do {
      byte = block[at++];
      count += byte;
    } while (byte === 255);
    return count;
  };
  while (at < block.length) {
    const token = block[at++];
    const literals = more(token >> 4);
    block.copy(out, to, at, at + literals);
    at += literals;
    to += literals;
    if (at >= block.length) break;
    const distance = block[at] | (block[at + 1] << 8);
    at += 2;
    const count = more(token & 15) + MATCH_MIN;
    for (let i = 0; i < count; i++, to++) out[to] = out[to - distance];
  }
  return out;
};
