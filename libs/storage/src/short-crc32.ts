/**
 * CRC-32 (the one of zlib) of a few dozen bytes. A call into zlib costs 0.3 µs whatever the length; below some 100 bytes a table in JavaScript
 * is done sooner, and frames are checked one by one by the hundred thousand when a segment is scanned.
 */
const TABLE = new Int32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

export const shortCrc32 = (bytes: Uint8Array, from: number, to: number): number => {
  let crc = -1;
  for (let i = from; i < to; i++) crc = TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
};
