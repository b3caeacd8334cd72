/**
 * The CRC-32 (the one of zlib) of bytes whose two parts' are known, as zlib's `crc32_combine` does it: to append n bytes multiplies the CRC of what is
 * before them by x^(8n) modulo the polynomial. Costs about a microsecond, so bytes need not be gone through again for the checksum of a larger whole.
 */
const POLYNOMIAL = 0xedb88320;
/** 1 and x, as polynomials with the highest bit for the lowest power. */
const ONE = 0x80000000;
const X = 0x40000000;

const multiply = (a: number, b: number): number => {
  let product = 0;
  let shifted = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
};

/** x^(2^n), n from 3 to what the bytes of any file have. */
const POWERS: readonly number[] = ((): number[] => {
  const powers = [X];
  while (powers.length < 56) powers.push(multiply(powers.at(-1)!, powers.at(-1)!));
  return powers.slice(3);
})();

export const crc32Combine = (before: number, after: number, afterBytes: number): number => {
  let power = ONE;
  for (let rest = afterBytes, n = 0; rest > 0; rest = Math.floor(rest / 2), n++) {
    if (rest % 2 === 1) power = multiply(POWERS[n], power);
  }
  return (multiply(power, before) ^ after) >>> 0;
};
