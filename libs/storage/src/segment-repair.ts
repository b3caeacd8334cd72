import { TidelineError, asOffset, readU32, type GroupId, type LogTime, type Offset, type Term } from '#kernel';
import { batchFirstOffset, batchGroup, batchLastOffset, checkBatch } from '#wire';
import type { FileSystem } from './file-system.js';
import { OffsetIndex } from './offset-index.js';
import type { DamagedRange } from './recovery.js';
import { FRAME_HEADER_BYTES, encodeFrame, encodeSegmentHeader, segmentFileName } from './segment-format.js';
import { scanSegment } from './segment-scan.js';
import { Segment } from './segment.js';

export interface RepairPlace {
  readonly fs: FileSystem;
  readonly directory: string;
  readonly group: GroupId;
  readonly intervalBytes: number;
}

export interface RepairRequest {
  readonly segments: readonly Segment[];
  readonly range: DamagedRange;
  readonly batches: readonly Uint8Array[];
  readonly nextIncarnation: number;
  /** What lies before the log. */
  readonly base: { readonly term: Term; readonly logTime: LogTime };
}

export interface Repaired {
  readonly segments: Segment[];
  readonly replaced: Segment | null;
  /** What of the range is still to be repaired. */
  readonly remaining: readonly DamagedRange[];
  /** What the new file lacks: damage known besides the range, or met while the good batches were copied. */
  readonly missing: readonly DamagedRange[];
}

/**
 * Writes the segment that holds the damage anew: its good batches before the range, the given ones, its good batches after it. Written aside and
 * renamed over the old file, so that a crash leaves the one or the other. A range whose segment file is missing becomes a
 * segment of its own, and then may be repaired in several steps; a range within a segment must be given whole.
 * A range without an end is closed by whatever is given, also by nothing: the caller knows from its peers that no more was promised.
 */
export const rewriteDamaged = (place: RepairPlace, request: RepairRequest): Repaired => {
  const { fs, directory, group } = place;
  const { segments, range, batches } = request;
  const next = checkGiven(group, range, batches);
  const at = segments.findLastIndex((segment) => segment.base <= range.fromOffset);
  const holder = at >= 0 ? segments[at] : null;
  // A sealed segment whose frames end before the range is whole: the damage is a missing file.
  const isWithin = holder !== null && (holder.base === range.fromOffset || !isWhole(holder, range));
  const following = segments[at + 1]?.base ?? null;
  const reachesNextFile = range.toOffset === null || range.toOffset === following;
  if (range.toOffset !== null && next < range.toOffset && (isWithin || !reachesNextFile)) {
    throw new TidelineError(
      'bad-request',
      `group ${group}: the damage goes up to offset ${range.toOffset - 1}, the batches end at ${next - 1}`,
      {
        details: { fromOffset: range.fromOffset, toOffset: range.toOffset },
      },
    );
  }
  const before = isWithin ? segments[at - 1] : holder;
  const base = isWithin ? holder.base : range.fromOffset;
  const header = {
    group,
    base,
    incarnation: request.nextIncarnation,
    previousTerm: before?.lastTerm ?? request.base.term,
    previousLogTime: before?.lastLogTime ?? request.base.logTime,
  };
  const path = `${directory}/${segmentFileName(base)}`;
  const headerBytes = encodeSegmentHeader(header);
  const segment = new Segment(group, base, path, { ...header, crc: readU32(headerBytes, 60) });
  segment.index = new OffsetIndex(place.intervalBytes);
  const aside = fs.openSync(`${path}.tmp`, { create: true });
  aside.truncateSync(0);
  aside.writeSync(headerBytes, 0);
  const frame = Buffer.alloc(FRAME_HEADER_BYTES);
  const missing: DamagedRange[] = [];
  let expected = base;
  const put = (batch: Uint8Array): void => {
    const first = batchFirstOffset(batch);
    if (first > expected) missing.push({ fromOffset: expected, toOffset: first });
    expected = asOffset(batchLastOffset(batch) + 1);
    const position = segment.dataEnd;
    const crc = encodeFrame(frame, 0, batch, { ...header, position, writeStart: position, previous: segment.chain });
    aside.writeSync(frame, position);
    aside.writeSync(batch, position + FRAME_HEADER_BYTES);
    segment.appended(batch, crc);
  };
  const copyGood = (from: Offset, below: Offset | null): void => {
    const old = fs.openSync(holder!.path, { readOnly: true });
    try {
      scanSegment(old, {
        group,
        base,
        visit: ({ bytes, batchAt }) => {
          const first = batchFirstOffset(bytes, batchAt);
          if (first < from || (below !== null && first >= below)) return;
          put(bytes.subarray(batchAt, batchAt + readU32(bytes, batchAt)));
        },
      });
    } finally {
      old.closeSync();
    }
  };
  if (isWithin) copyGood(base, range.fromOffset);
  for (const batch of batches) put(batch);
  if (isWithin && range.toOffset !== null) copyGood(range.toOffset, null);
  const isLast = at + 1 >= segments.length;
  if (isWithin && expected <= holder.lastOffset) {
    missing.push({ fromOffset: expected, toOffset: isLast ? null : asOffset(holder.lastOffset + 1) });
  }
  if (!isLast || (isWithin && holder.sealed)) {
    aside.writeSync(segment.footer(), segment.dataEnd);
    segment.sealed = true;
  }
  aside.syncSync();
  aside.closeSync();
  fs.renameSync(`${path}.tmp`, path);
  fs.syncDirectorySync(directory);

  const repaired = segments.filter((each) => !(isWithin && each === holder));
  repaired.splice(isWithin ? at : at + 1, 0, segment);
  const left = range.toOffset !== null && next < range.toOffset;
  return {
    segments: repaired,
    replaced: isWithin ? holder : null,
    remaining: left ? [{ fromOffset: next, toOffset: range.toOffset }] : [],
    missing,
  };
};

const isWhole = (segment: Segment, range: DamagedRange): boolean =>
  segment.sealed && segment.lastOffset + 1 === range.fromOffset;

/** The batches are good, of this group, and consecutive from the range's start; returns the offset after the last. */
const checkGiven = (group: GroupId, range: DamagedRange, batches: readonly Uint8Array[]): Offset => {
  let next = range.fromOffset;
  for (const batch of batches) {
    checkBatch(batch);
    const wrong = batchFirstOffset(batch) !== next || batchGroup(batch) !== group;
    if (wrong) throw new TidelineError('bad-request', `group ${group}: the batches do not continue at offset ${next}`);
    next = asOffset(batchLastOffset(batch) + 1);
  }
  if (range.toOffset !== null && next > range.toOffset) {
    throw new TidelineError(
      'bad-request',
      `group ${group}: the batches go beyond the damage, which ends at ${range.toOffset - 1}`,
    );
  }
  return next;
};
