import { assert, hashKey, slotOf } from '#kernel';
import type { MapView } from '../map-view.js';
import type { ViewState } from '../view-state.js';

/** Where the entry of a key lies in the arena, the whole of it: writing there damages the view, as a bit that flipped would. */
export const bytesInMemory = (view: MapView, key: Buffer): { whole: Buffer; key: Buffer; value: Buffer } => {
  const { state } = view as unknown as { state: ViewState };
  const hash = hashKey(key);
  const slot = state.slot(slotOf(hash));
  const bucket = slot.find(hash, key, 0, key.length);
  assert(bucket >= 0, 'no such entry');
  const stored = slot.load(bucket);
  return { whole: stored.chunk.subarray(stored.start, stored.end), key: stored.key, value: stored.value };
};
