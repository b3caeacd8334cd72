import { asOffset, type Offset } from '#kernel';
import type { RecordInput } from '#wire';

/**
 * "Try the parked events of this view again": a record of its topic like any other, so that every host does it at the same place. It has no
 * key, so no map view takes it for an entry.
 *
 *     type   tideline.replay
 *     value  {"view": name, "offset": number}    one event; without offset all of the partition
 */
export const REPLAY_TYPE = 'tideline.replay';

export interface ReplayCommand {
  readonly view: string;
  /** null: all. */
  readonly offset: Offset | null;
}

export const encodeReplay = ({ view, offset }: ReplayCommand): RecordInput => ({
  key: null,
  type: REPLAY_TYPE,
  headers: [{ name: 'content-type', value: Buffer.from('application/json') }],
  value: Buffer.from(JSON.stringify(offset === null ? { view } : { view, offset })),
});

/** Null for what is no such command: anyone may append a record of this type. */
export const decodeReplay = (value: unknown): ReplayCommand | null => {
  if (typeof value !== 'object' || value === null) return null;
  const { view, offset } = value as { view?: unknown; offset?: unknown };
  if (typeof view !== 'string') return null;
  if (offset === undefined) return { view, offset: null };
  return Number.isSafeInteger(offset) ? { view, offset: asOffset(offset as number) } : null;
};
