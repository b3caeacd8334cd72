import { resolve } from 'node:path';
import {
  asNodeId,
  isViewLimit,
  TOPIC_NAME_PATTERN,
  VIEW_DEFAULTS,
  VIEW_LIMITS,
  type NodeId,
  type ViewLimit,
  type ViewSettings,
} from '#kernel';
import { BYTE_SIZE_SYNTAX, formatByteSize, parseByteSize } from '../byte-size.js';
import { DURATION_SYNTAX, formatDurationMs, parseDurationMs } from '../duration.js';
import {
  formatAddress,
  isHost,
  NODE_ID_MAX,
  parseAddress,
  parsePeer,
  type Address,
  type PeerAddress,
} from './address.js';

/** What a value of an option may look like: how its text is read, what is allowed, how it is written. */
export interface OptionKind<T> {
  /** Stands for the value in `--help`. */
  readonly placeholder: string;
  /** What is allowed, as the end of the sentence "must be …". */
  readonly allowed: string;
  /** The value, or a Refusal. Paths are made absolute from `cwd`. */
  parse(text: string, cwd: string): T | Refusal;
  format(value: T): string;
}

/** Why a text is no value of its kind; without a reason, `allowed` says it all. */
export class Refusal {
  constructor(readonly reason?: string) {}
}

const REFUSED = new Refusal();

interface Range {
  readonly min: number;
  readonly max: number;
}

export const integer = ({ min, max }: Range): OptionKind<number> => ({
  placeholder: 'N',
  allowed: `a whole number from ${min} to ${max}`,
  parse: (text) => {
    const value = /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : REFUSED;
  },
  format: String,
});

export const nodeId: OptionKind<NodeId> = {
  ...integer({ min: 1, max: NODE_ID_MAX }),
  parse: (text) => (/^\d{1,10}$/.test(text) && +text >= 1 && +text <= NODE_ID_MAX ? asNodeId(+text) : REFUSED),
};

/** 0 lets the system choose a free port; for tests. */
export const port: OptionKind<number> = { ...integer({ min: 0, max: 65_535 }), placeholder: 'PORT' };

export const durationMs = ({ min, max }: Range): OptionKind<number> => ({
  placeholder: 'DURATION',
  allowed: `${formatDurationMs(min)} to ${formatDurationMs(max)} (milliseconds, or ${DURATION_SYNTAX})`,
  parse: (text) => {
    const value = parseDurationMs(text, 'ms');
    return value !== undefined && value >= min && value <= max ? value : REFUSED;
  },
  format: formatDurationMs,
});

export const byteSize = ({
  min,
  max,
  multipleOf = 1,
}: Range & { readonly multipleOf?: number }): OptionKind<number> => ({
  placeholder: 'SIZE',
  allowed:
    `${formatByteSize(min)} to ${formatByteSize(max)} (${BYTE_SIZE_SYNTAX})` +
    (multipleOf === 1 ? '' : `, a multiple of ${formatByteSize(multipleOf)}`),
  parse: (text) => {
    const value = parseByteSize(text);
    return value !== undefined && value >= min && value <= max && value % multipleOf === 0 ? value : REFUSED;
  },
  format: formatByteSize,
});

const TRUE = new Set(['true', 'yes', 'on', '1']);
const FALSE = new Set(['false', 'no', 'off', '0']);

export const flag: OptionKind<boolean> = {
  placeholder: '',
  allowed: 'true or false',
  parse: (text) => {
    const value = text.toLowerCase();
    return TRUE.has(value) ? true : FALSE.has(value) ? false : REFUSED;
  },
  format: String,
};

export const choice = <const T extends string>(...values: readonly T[]): OptionKind<T> => ({
  placeholder: values.join('|'),
  allowed: `one of ${values.join(', ')}`,
  parse: (text) => values.find((value) => value === text) ?? REFUSED,
  format: String,
});

export const path: OptionKind<string> = {
  placeholder: 'PATH',
  allowed: 'a path',
  parse: (text, cwd) => (text === '' || text.includes('\0') ? REFUSED : resolve(cwd, text)),
  format: String,
};

export const host: OptionKind<string> = {
  placeholder: 'HOST',
  allowed: 'a host name or an IP address, without a port',
  parse: (text) => (isHost(text) ? text : REFUSED),
  format: String,
};

/** A name that appears in files, messages and metrics. */
export const name: OptionKind<string> = {
  placeholder: 'NAME',
  allowed: '1 to 64 letters, digits, dots, dashes or underscores',
  parse: (text) => (/^[a-zA-Z0-9._-]{1,64}$/.test(text) ? text : REFUSED),
  format: String,
};

export const catalogUrl: OptionKind<string> = {
  placeholder: 'URL',
  allowed: 'sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/DATABASE',
  parse: (text, cwd) => {
    if (text === 'sqlite::memory:') return text;
    const file = /^sqlite:(?:\/\/)?(.+)$/.exec(text)?.[1];
    if (file !== undefined) return `sqlite:${resolve(cwd, file)}`;
    if (!/^postgres(ql)?:\/\//.test(text) || !URL.canParse(text)) return REFUSED;
    return new URL(text).pathname.length > 1 ? text : new Refusal('must name a database');
  },
  format: String,
};

/** A list has at most so many items: more is a mistake, and each costs something. */
const LIST_ITEMS_MAX = 64;

function list<T>(
  items: string,
  allowed: string,
  parseItem: (text: string) => T | Refusal,
  formatItem: (item: T) => string,
  identities: ReadonlyArray<(item: T) => string>,
): OptionKind<readonly T[]> {
  return {
    placeholder: items,
    allowed,
    parse: (text) => {
      const parts = text.split(',').map((part) => part.trim());
      if (parts.length > LIST_ITEMS_MAX) return new Refusal(`has ${parts.length} items; at most ${LIST_ITEMS_MAX}`);
      const seen = new Set<string>();
      const values: T[] = [];
      for (const part of parts) {
        const value = parseItem(part);
        if (value instanceof Refusal)
          return new Refusal(`${JSON.stringify(part)} ${value.reason ?? `is not ${allowed}`}`);
        for (const [index, identity] of identities.entries()) {
          const id = identity(value);
          if (seen.has(`${index} ${id}`)) return new Refusal(`names ${id} twice`);
          seen.add(`${index} ${id}`);
        }
        values.push(value);
      }
      return values;
    },
    format: (values) => values.map(formatItem).join(','),
  };
}

export const addresses: OptionKind<readonly Address[]> = list(
  'HOST:PORT,…',
  'HOST:PORT, separated by commas',
  (text) => parseAddress(text) ?? REFUSED,
  formatAddress,
  [formatAddress],
);

export const peers: OptionKind<readonly PeerAddress[]> = list(
  'ID@HOST:PORT,…',
  'ID@HOST:PORT, separated by commas',
  (text) => parsePeer(text) ?? REFUSED,
  (peer) => `${peer.nodeId}@${formatAddress(peer)}`,
  [(peer) => `node ${peer.nodeId}`, formatAddress],
);

/** A topic to create at first start. */
export interface TopicOption {
  readonly name: string;
  readonly partitions: number;
  readonly view: ViewSettings;
}

interface ViewLimitSyntax {
  readonly word: string;
  readonly limit: ViewLimit;
  readonly parse: (text: string) => number | undefined;
  readonly format: (value: number) => string;
}

const duration = (text: string): number | undefined => parseDurationMs(text);
const count = (text: string): number | undefined => (/^\d{1,16}$/.test(text) ? Number(text) : undefined);

/** What may follow a topic as `+word=value`. */
const VIEW_LIMIT_SYNTAX: readonly ViewLimitSyntax[] = [
  { word: 'ttl', limit: 'defaultTtlMs', parse: duration, format: formatDurationMs },
  { word: 'maxIdle', limit: 'maxIdleMs', parse: duration, format: formatDurationMs },
  { word: 'maxEntries', limit: 'maxEntries', parse: count, format: String },
  { word: 'maxBytes', limit: 'maxBytes', parse: parseByteSize, format: formatByteSize },
];
const VIEW_SYNTAX = ['+archive', ...VIEW_LIMIT_SYNTAX.map(({ word }) => `+${word}=…`)].join(' ');

export const TOPIC_PARTITIONS_MAX = 256;

/** What a part such as `ttl=30s` sets. */
const parseViewSetting = (part: string): Partial<ViewSettings> | Refusal => {
  if (part === 'archive') return { archive: true };
  const [word, text = ''] = part.split(/=(.*)/s);
  const syntax = VIEW_LIMIT_SYNTAX.find((each) => each.word === word);
  if (!syntax) return new Refusal(`has +${part}; a topic may have ${VIEW_SYNTAX}`);
  const value = syntax.parse(text);
  if (isViewLimit(syntax.limit, value)) return { [syntax.limit]: value };
  const { min, max } = VIEW_LIMITS[syntax.limit];
  return new Refusal(`has +${part}; ${word} may be ${syntax.format(min)} to ${syntax.format(max)}`);
};

export const topics: OptionKind<readonly TopicOption[]> = list(
  'NAME[:PARTITIONS][+SETTING…],…',
  `NAME or NAME:PARTITIONS, each with ${VIEW_SYNTAX} as its view is to have, separated by commas`,
  (text) => {
    const [spec, ...parts] = text.split('+');
    const [topic, partitions = '1', ...rest] = spec.split(':');
    // A topic is a folder's name too: `.` and `..` match the pattern and must not get through.
    if (rest.length > 0 || !TOPIC_NAME_PATTERN.test(topic) || /^\.+$/.test(topic)) return REFUSED;
    if (topic.startsWith('__')) return new Refusal('begins with __, which is kept for the system');
    const number = /^\d{1,4}$/.test(partitions) ? Number(partitions) : 0;
    if (number < 1 || number > TOPIC_PARTITIONS_MAX) {
      return new Refusal(`has ${partitions} partitions; allowed are 1 to ${TOPIC_PARTITIONS_MAX}`);
    }
    let view = VIEW_DEFAULTS;
    const seen = new Set<string>();
    for (const part of parts) {
      const setting = parseViewSetting(part);
      if (setting instanceof Refusal) return setting;
      const [word] = part.split('=');
      if (seen.has(word)) return new Refusal(`has +${word} twice`);
      seen.add(word);
      view = { ...view, ...setting };
    }
    return { name: topic, partitions: number, view };
  },
  ({ name: topic, partitions, view }) =>
    (partitions === 1 ? topic : `${topic}:${partitions}`) +
    (view.archive ? '+archive' : '') +
    VIEW_LIMIT_SYNTAX.map(({ word, limit, format }) => {
      const value = view[limit];
      return value === null ? '' : `+${word}=${format(value)}`;
    }).join(''),
  [(topic) => topic.name],
);
