/** Sizes as people write them: `64MiB`, `1.5GiB`, `4k`, `1048576`. KiB, MiB … and K, M … count in 1024s; kB, MB … in 1000s. */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  ki: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mi: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gi: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  ti: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
};

export const BYTE_SIZE_SYNTAX = 'a number of bytes, or one with KiB, MiB or GiB';

const SYNTAX = /^(\d{1,16}(?:\.\d{1,9})?)\s*([a-z]*)$/;

/** Bytes, a whole number below 2^53; undefined if the text is no size or no whole number of bytes. */
export function parseByteSize(text: string): number | undefined {
  const match = SYNTAX.exec(text.trim().toLowerCase());
  if (!match || !Object.hasOwn(UNITS, match[2])) return undefined;
  const bytes = Number(match[1]) * UNITS[match[2]];
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest exact spelling: 67108864 → `64MiB`, 1000 → `1000`. */
export function formatByteSize(bytes: number): string {
  for (const [name, size] of [
    ['TiB', UNITS.tib],
    ['GiB', UNITS.gib],
    ['MiB', UNITS.mib],
    ['KiB', UNITS.kib],
  ] as const) {
    if (bytes > 0 && bytes % size === 0) return `${bytes / size}${name}`;
  }
  return String(bytes);
}
