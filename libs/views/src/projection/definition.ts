import { KEY_BYTES_MAX, RECORD_BYTES_MAX, TOPIC_NAME_PATTERN, TidelineError, JSON_DEPTH_MAX } from '#kernel';
import { depthOfText } from '../types/json/json-text.js';
import type { ViewEvent } from './view-event.js';

/** What a view is looked up by. Numbers and booleans stand for their text. */
export type IndexValue = string | number | boolean;
export type IndexFunction<State> = (state: State, key: string) => IndexValue | readonly IndexValue[] | null | undefined;

export interface ViewOptions<State = unknown> {
  /** Whose records it is built from. */
  readonly topic: string;
  /** Of the view, among all views; not that of a topic with a map view. */
  readonly name: string;
  /** 1 … ; a higher one whenever the same events give other states. Hosts of one version must run the same code. */
  readonly version: number;
  /** Lifetime of a state, ms from the log time of the event that made it, unless `expiring` gives another. Default: for ever. */
  readonly ttlMs?: number;
  /** States that expire go to the archive first. */
  readonly archive?: boolean;
  /** An event that a method throws on: `park` (default) sets it aside and goes on, `halt` stops the view there. */
  readonly onError?: 'park' | 'halt';
  /** Secondary lookups by name. */
  readonly indexes?: Readonly<Record<string, IndexFunction<State>>>;
  /**
   * Key of the state an event is about; null: none, it is passed over. Default: the record's key. With another the topic must have a
   * single partition: the events of one state would else lie in several, and nobody could say in which order they came.
   */
  readonly key?: (event: ViewEvent) => string | Uint8Array | null;
}

/** A state that lives so long, ms from the log time of its event; null: for ever, whatever the view says. */
export class Expiring<State> {
  constructor(
    readonly state: State,
    readonly ttlMs: number | null,
  ) {}
}

export const expiring = <State>(state: State, ttlMs: number | null): Expiring<State> => new Expiring(state, ttlMs);

/** What a method returns: the next state, null to remove it, undefined to leave it as it is. A state is what JSON can say. */
export type Next<State> = State | Expiring<State> | null | undefined;

/** What became of an event. */
export type Step =
  | { readonly effect: 'none' }
  | { readonly effect: 'delete'; readonly key: Buffer }
  | {
      readonly effect: 'put';
      readonly key: Buffer;
      /** JSON text. */
      readonly value: Buffer;
      /** null: for ever. */
      readonly ttlMs: number | null;
      /** Of each index, in the order of `indexNames`. */
      readonly indexed: readonly (readonly string[])[];
    }
  | { readonly effect: 'error'; readonly message: string };

/** Keys that begin so are the view's own (see projection.ts). */
export const RESERVED_KEY_PREFIX = Buffer.from('\0tideline/');
export const isReservedKey = (key: Uint8Array): boolean =>
  key.length >= RESERVED_KEY_PREFIX.length && RESERVED_KEY_PREFIX.compare(key, 0, RESERVED_KEY_PREFIX.length) === 0;

export const VIEW_VERSION_MAX = 2 ** 31 - 1;
/** What one state may become. */
export const STATE_BYTES_MAX = RECORD_BYTES_MAX;
const INDEXES_MAX = 16;
const INDEX_NAME_PATTERN = /^[a-zA-Z0-9._-]{1,64}$/;
/** Values of one state in one index, and the bytes of each. */
export const INDEX_VALUES_MAX = 64;
export const INDEX_VALUE_BYTES_MAX = 1024;
const TTL_MS_MAX = 2 ** 52;

type Method = (state: unknown, event: ViewEvent) => unknown;
export type ViewType = new () => object;

/** Method names by event type, of each class that has some; '' stands for any other type. */
const methodsOf = new WeakMap<object, Map<string, string | symbol>>();
const optionsOf = new WeakMap<object, ViewOptions>();
const ANY = '';

/** Marks a class as a projection. Its methods marked with `Apply` say what events do to a state. */
export const View =
  <State = never>(options: ViewOptions<State>) =>
  (type: ViewType): void => {
    optionsOf.set(type, options as unknown as ViewOptions);
  };

/** Marks the method that applies events of this type; without one, all that no other method takes, those without a type too. */
export const Apply =
  (type = ANY) =>
  (prototype: object, method: string | symbol): void => {
    const methods = methodsOf.get(prototype) ?? new Map<string, string | symbol>();
    if (methods.has(type)) throw refused(`two methods apply ${type === ANY ? 'any other type' : JSON.stringify(type)}`);
    methods.set(type, method);
    methodsOf.set(prototype, methods);
  };

const refused = (message: string): TidelineError => new TidelineError('bad-option', message);

const messageOf = (thrown: unknown): string => {
  try {
    return thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : `thrown: ${String(thrown)}`;
  } catch {
    return 'something that cannot be shown was thrown';
  }
};

/** A projection as its class declares it, checked; what it does to a state is a pure function. */
export class ProjectionDefinition {
  readonly name: string;
  readonly topic: string;
  readonly version: number;
  readonly ttlMs: number | null;
  readonly archive: boolean;
  readonly onError: 'park' | 'halt';
  readonly indexNames: readonly string[];
  /** States have other keys than records. */
  readonly rekeyed: boolean;
  private readonly instance: object;
  private readonly methods = new Map<string, Method>();
  private readonly indexes: readonly IndexFunction<unknown>[];
  private readonly keyOf: ViewOptions['key'];

  /** @throws TidelineError `bad-option` for a class that is no projection, or not a sound one */
  constructor(type: ViewType) {
    const options = optionsOf.get(type);
    if (options === undefined) throw refused(`class ${type.name} is not marked with @View`);
    const { name, topic, version, ttlMs, archive = false, onError = 'park', indexes = {}, key } = options;
    const what = `view ${name}, class ${type.name}`;
    if (!TOPIC_NAME_PATTERN.test(name) || name.startsWith('__')) {
      throw refused(
        `${JSON.stringify(name)} of class ${type.name} is no name for a view: ${TOPIC_NAME_PATTERN.source}`,
      );
    }
    if (!TOPIC_NAME_PATTERN.test(topic)) throw refused(`${what}: ${JSON.stringify(topic)} is no name of a topic`);
    if (!Number.isInteger(version) || version < 1 || version > VIEW_VERSION_MAX) {
      throw refused(`${what}: version is a whole number from 1 to ${VIEW_VERSION_MAX}, not ${String(version)}`);
    }
    if (ttlMs !== undefined && !isTtl(ttlMs)) throw refused(`${what}: ttlMs is a whole number from 1 to ${TTL_MS_MAX}`);
    if (onError !== 'park' && onError !== 'halt') throw refused(`${what}: onError is park or halt`);
    const names = Object.keys(indexes);
    const bad = names.find((index) => !INDEX_NAME_PATTERN.test(index));
    if (bad !== undefined) throw refused(`${what}: ${JSON.stringify(bad)} is no name for an index`);
    if (names.length > INDEXES_MAX) throw refused(`${what}: at most ${INDEXES_MAX} indexes`);

    this.name = name;
    this.topic = topic;
    this.version = version;
    this.ttlMs = ttlMs ?? null;
    this.archive = archive;
    this.onError = onError;
    this.indexNames = names;
    this.indexes = Object.values(indexes);
    this.keyOf = key;
    this.rekeyed = key !== undefined;
    // Frozen: what a method remembers on its own would be lost on a restart, and differ from host to host.
    this.instance = Object.freeze(new type());
    for (
      let prototype = type.prototype as object | null;
      prototype;
      prototype = Object.getPrototypeOf(prototype) as object | null
    ) {
      for (const [event, method] of methodsOf.get(prototype) ?? []) {
        const applied = (this.instance as Record<string | symbol, unknown>)[method];
        if (typeof applied !== 'function' || applied.constructor.name !== 'Function') {
          throw refused(`${what}: ${String(method)} must be an ordinary method, neither async nor a generator`);
        }
        if (!this.methods.has(event)) this.methods.set(event, applied as Method);
      }
    }
    if (this.methods.size === 0) throw refused(`${what}: no method is marked with @Apply`);
  }

  /** Name and version: what a snapshot is of. */
  get id(): string {
    return `${this.name}@${this.version}`;
  }

  /** Whether it has a method for events of this type. */
  takes(type: string | null): boolean {
    return this.methods.has(ANY) || (type !== null && this.methods.has(type));
  }

  /** What the event does. `read` gives the JSON text of the live state under a key. Throws nothing. */
  step(event: ViewEvent, read: (key: Buffer) => string | null): Step {
    const method = (event.type === null ? undefined : this.methods.get(event.type)) ?? this.methods.get(ANY);
    if (method === undefined) return { effect: 'none' };
    try {
      return this.apply(method, event, read);
    } catch (thrown) {
      return { effect: 'error', message: messageOf(thrown) };
    }
  }

  private apply(method: Method, event: ViewEvent, read: (key: Buffer) => string | null): Step {
    const key = this.stateKey(event);
    if (key === null) return { effect: 'none' };
    const before = read(key);
    const state: unknown = before === null ? null : JSON.parse(before);
    const next = method.call(this.instance, state, event);
    if (next === undefined) return { effect: 'none' };
    if (next === null) return before === null ? { effect: 'none' } : { effect: 'delete', key };
    const after: unknown = next instanceof Expiring ? next.state : next;
    const ttlMs = next instanceof Expiring ? next.ttlMs : this.ttlMs;
    if (ttlMs !== null && !isTtl(ttlMs)) throw new RangeError(`a lifetime of ${String(ttlMs)} ms`);
    if (typeof (after as { then?: unknown } | null)?.then === 'function') throw new TypeError('a promise is no state');
    const text = JSON.stringify(after) as string | undefined;
    if (text === undefined || after === null) throw new TypeError('the state is nothing that JSON can say');
    const value = Buffer.from(text);
    if (value.length > STATE_BYTES_MAX) {
      throw new RangeError(`the state would have ${value.length} bytes, the limit is ${STATE_BYTES_MAX}`);
    }
    if (depthOfText(value) > JSON_DEPTH_MAX) throw new RangeError(`the state is nested deeper than ${JSON_DEPTH_MAX}`);
    // From the text, as after a restart: a Date is a string there, and what is undefined is absent.
    const indexed = this.indexes.length === 0 ? [] : this.indexedBy(key, JSON.parse(text));
    return { effect: 'put', key, value, ttlMs, indexed };
  }

  /** What a state is looked up by, in the order of `indexNames`. @throws what an index function throws */
  indexedBy(key: Buffer, state: unknown): readonly (readonly string[])[] {
    if (this.indexes.length === 0) return [];
    const name = key.toString();
    return this.indexes.map((index, i) => {
      const given = index(state, name);
      if (given === null || given === undefined) return [];
      const values = [...new Set((Array.isArray(given) ? given : [given]).map(String))];
      if (values.length > INDEX_VALUES_MAX)
        throw new RangeError(`more than ${INDEX_VALUES_MAX} values in ${this.indexNames[i]}`);
      if (values.some((value) => Buffer.byteLength(value) > INDEX_VALUE_BYTES_MAX)) {
        throw new RangeError(`a value in ${this.indexNames[i]} has more than ${INDEX_VALUE_BYTES_MAX} bytes`);
      }
      return values;
    });
  }

  private stateKey(event: ViewEvent): Buffer | null {
    let key: Buffer | null = event.keyBytes;
    if (this.keyOf) {
      const given = this.keyOf(event);
      if (given === null) return null;
      key = typeof given === 'string' ? Buffer.from(given) : Buffer.from(given);
    } else if (key === null) throw new TypeError('the event has no key');
    if (key!.length === 0 || key!.length > KEY_BYTES_MAX) {
      throw new RangeError(`a key has 1 to ${KEY_BYTES_MAX} bytes, not ${key!.length}`);
    }
    if (isReservedKey(key!)) throw new RangeError("the key is one of the view's own");
    return key;
  }
}

const isTtl = (ttlMs: unknown): boolean =>
  typeof ttlMs === 'number' && Number.isInteger(ttlMs) && ttlMs >= 1 && ttlMs <= TTL_MS_MAX;

/** What `foldView`, a host and a test make of a class. @throws TidelineError `bad-option` */
export const definitionOf = (type: ViewType): ProjectionDefinition => new ProjectionDefinition(type);
