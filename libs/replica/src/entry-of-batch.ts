import { type Offset } from '#kernel';
import { decodeConfiguration, type Entry } from '#raft';
import {
  ControlKind,
  batchControlKind,
  batchControlPayload,
  batchFirstOffset,
  batchIsControl,
  batchLastOffset,
  batchLength,
  batchTerm,
  forEachBatch,
} from '#wire';

/**
 * A stamped batch as the Raft core sees it. The bytes are kept, not copied. The batch must have been checked.
 * @throws TidelineError `malformed-frame` | `unsupported-version` when a configuration does not parse
 */
export const entryOfBatch = (bytes: Uint8Array): Entry => {
  const firstOffset = batchFirstOffset(bytes);
  const lastOffset = batchLastOffset(bytes);
  const term = batchTerm(bytes);
  if (batchIsControl(bytes)) {
    const kind = batchControlKind(bytes);
    if (kind === ControlKind.Noop) return { firstOffset, lastOffset, term, kind: 'noop', bytes };
    if (kind === ControlKind.Configuration) {
      const configuration = decodeConfiguration(batchControlPayload(bytes));
      return { firstOffset, lastOffset, term, kind: 'configuration', bytes, configuration };
    }
  }
  return { firstOffset, lastOffset, term, kind: 'data', bytes };
};

/** Entries of a run of batches read from storage, those from `from` on. */
export const entriesOfRun = (run: Uint8Array, from: Offset): Entry[] => {
  const entries: Entry[] = [];
  forEachBatch(run, (at) => {
    if (batchLastOffset(run, at) >= from) entries.push(entryOfBatch(run.subarray(at, at + batchLength(run, at))));
  });
  return entries;
};
