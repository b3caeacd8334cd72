import { asLogTime, asOffset, type LogTime } from '#kernel';
import { definitionOf, type ViewType } from './definition.js';
import type { ViewEvent } from './view-event.js';

/** An event as a test writes it down. */
export interface FoldedEvent {
  readonly type?: string;
  readonly key?: string | Uint8Array;
  /** What JSON can say, or bytes; left out or null: a tombstone. */
  readonly value?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ttlMs?: number;
  /** ms; default: as that of the event before, 0 at first. */
  readonly logTime?: number;
}

export interface FoldedView<State> {
  /** By key; those that are live at the end. */
  readonly states: ReadonlyMap<string, State>;
  /** Events a method threw on. */
  readonly parked: readonly { readonly offset: number; readonly error: string }[];
  /** Keys of the states that an index has under a value, in order. */
  lookup(index: string, value: string | number | boolean): string[];
}

/**
 * What a view of this class says after these events of one partition: the same steps a host takes, over a plain Map. For unit tests.
 * `until`: log time of the look at it, default that of the last event.
 * @throws TidelineError `bad-option` for a class that is no projection
 */
export const foldView = <State = unknown>(
  type: ViewType,
  events: Iterable<FoldedEvent>,
  options: { readonly until?: number } = {},
): FoldedView<State> => {
  const definition = definitionOf(type);
  const states = new Map<string, { text: string; expiresAt: number }>();
  const parked: { offset: number; error: string }[] = [];
  let now: LogTime = asLogTime(0);
  let offset = 0;
  const live = (key: Buffer): string | null => {
    const found = states.get(key.toString('latin1'));
    return found !== undefined && found.expiresAt > now ? found.text : null;
  };
  for (const folded of events) {
    offset++;
    now = asLogTime(Math.max(now, folded.logTime ?? 0));
    const event = eventAt(folded, offset, now);
    if (!definition.takes(event.type)) continue;
    const step = definition.step(event, live);
    if (step.effect === 'error') parked.push({ offset, error: step.message });
    else if (step.effect === 'delete') states.delete(step.key.toString('latin1'));
    else if (step.effect === 'put') {
      const expiresAt = step.ttlMs === null ? Number.POSITIVE_INFINITY : now + step.ttlMs;
      states.set(step.key.toString('latin1'), { text: step.value.toString(), expiresAt });
    }
  }
  now = asLogTime(Math.max(now, options.until ?? 0));
  const kept = [...states]
    .filter(([, { expiresAt }]) => expiresAt > now)
    .map(([key, { text }]) => [Buffer.from(key, 'latin1'), JSON.parse(text) as State] as const)
    .sort(([a], [b]) => Buffer.compare(a, b));
  return {
    states: new Map(kept.map(([key, state]) => [key.toString(), state])),
    parked,
    lookup(index, value) {
      const number = definition.indexNames.indexOf(index);
      if (number < 0) throw new RangeError(`no index ${index}`);
      return kept
        .filter(([key, state]) => definition.indexedBy(key, state)[number].includes(String(value)))
        .map(([key]) => key.toString());
    },
  };
};

const eventAt = (folded: FoldedEvent, offset: number, logTime: LogTime): ViewEvent => {
  const { type = null, key, value = null, headers = {}, ttlMs = null } = folded;
  const keyBytes = key === undefined ? null : Buffer.from(key as string);
  const isBytes = value instanceof Uint8Array;
  // Through text, so that what a method gets here is what it gets from a log.
  const bytes = value === null ? null : isBytes ? Buffer.from(value) : Buffer.from(JSON.stringify(value));
  return {
    type,
    key: keyBytes === null ? null : keyBytes.toString(),
    keyBytes,
    value: bytes === null || isBytes ? bytes : (JSON.parse(bytes.toString()) as unknown),
    bytes,
    headers,
    ttlMs,
    partition: 0,
    offset: asOffset(offset),
    logTime,
    timestamp: logTime,
  };
};
