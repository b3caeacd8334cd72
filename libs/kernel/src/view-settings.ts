/** What a topic's map view does with its entries beyond keeping them. Given with the topic, and the same for as long as it is there. */
export interface ViewSettings {
  /** Entries that expire or are evicted go to the archive before they leave memory. */
  readonly archive: boolean;
  /** Time to live of what is written without one; null: none. */
  readonly defaultTtlMs: number | null;
  /** An entry goes when it was neither written nor touched for so long (reads do not count); null: it stays. */
  readonly maxIdleMs: number | null;
  /** Live entries of all partitions together, above which the least recently written or touched go; null: no limit. */
  readonly maxEntries: number | null;
  /** As `maxEntries`, of what entries take: key, value and ENTRY_FIXED_BYTES each. */
  readonly maxBytes: number | null;
}

/** What is not said. */
export const VIEW_DEFAULTS: ViewSettings = {
  archive: false,
  defaultTtlMs: null,
  maxIdleMs: null,
  maxEntries: null,
  maxBytes: null,
};

/** Longest time to live that makes sense: 100 years. Keeps now + TTL far below 2^53. */
export const TTL_MS_MAX = 100 * 365 * 86_400_000;
/** What counts of an entry towards `maxBytes` besides its key and value; about what its place in the index and its header take. */
export const ENTRY_FIXED_BYTES = 48;

/** Settings that are numbers, and what is allowed. */
export const VIEW_LIMITS = {
  defaultTtlMs: { min: 1, max: TTL_MS_MAX },
  maxIdleMs: { min: 1, max: TTL_MS_MAX },
  maxEntries: { min: 1, max: 2 ** 32 - 1 },
  maxBytes: { min: 1024, max: 2 ** 50 },
} as const satisfies Partial<Record<keyof ViewSettings, { readonly min: number; readonly max: number }>>;

export type ViewLimit = keyof typeof VIEW_LIMITS;
export const VIEW_LIMIT_NAMES = Object.keys(VIEW_LIMITS) as readonly ViewLimit[];

export const isViewLimit = (name: ViewLimit, value: unknown): value is number => {
  const { min, max } = VIEW_LIMITS[name];
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
};

/** The settings with defaults where nothing is said; or, in words, what is wrong with them. Members of other names are passed over. */
export const viewSettingsOf = (given: { readonly [name in keyof ViewSettings]?: unknown }): ViewSettings | string => {
  const { archive = false } = given;
  if (typeof archive !== 'boolean') return 'archive is true or false';
  const limits: Partial<Record<ViewLimit, number | null>> = {};
  for (const name of VIEW_LIMIT_NAMES) {
    const value = given[name] ?? null;
    const { min, max } = VIEW_LIMITS[name];
    if (value !== null && !isViewLimit(name, value))
      return `${name} is a whole number from ${min} to ${max}, or null for none`;
    limits[name] = value;
  }
  return { ...VIEW_DEFAULTS, ...limits, archive };
};
