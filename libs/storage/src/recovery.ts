import { TidelineError, asOffset, readU32, type GroupId, type LogTime, type Offset, type Term } from '#kernel';
import { batchFirstOffset, batchLastOffset, batchLogTime } from '#wire';
import { listCheckpointsSync } from './checkpoint-file.js';
import type { DiskFile, FileSystem } from './file-system.js';
import { OffsetIndex, indexPath, timeIndexPath } from './offset-index.js';
import type { RecoveryFinding } from './partition-log.js';
import {
  FRAME_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  SEGMENT_VERSION,
  decodeSegmentFooter,
  decodeSegmentHeader,
  encodeSegmentHeader,
  footerBelongs,
  framePrevious,
  parseSegmentFileName,
  segmentFileName,
  type SegmentFooter,
  type SegmentHeader,
} from './segment-format.js';
import { endOfData, scanSegment, type SegmentGap, type SegmentScan } from './segment-scan.js';
import { Segment } from './segment.js';
import { STATE_FILE, StateFile } from './state-file.js';
import { isTornWrite } from './tear.js';

/** Torn tails kept aside per partition; the oldest goes first. */
const TORN_FILES_MAX = 8;
const FOOTER_BYTES_MAX = 1024 * 1024;

export interface RecoveryPlace {
  readonly fs: FileSystem;
  readonly directory: string;
  readonly group: GroupId;
  readonly indexIntervalBytes: number;
  /** `tail`: sealed segments by their footer, the last one in full. `all`: everything in full. */
  readonly validate: 'tail' | 'all';
  /** Only the simulator sets it: the mistake this file exists to avoid. */
  readonly truncateOnAnyDamage: boolean;
}

export interface DamagedRange {
  readonly fromOffset: Offset;
  readonly toOffset: Offset | null;
}

export interface RecoveredLog {
  readonly stateFile: StateFile;
  readonly segments: Segment[];
  readonly findings: RecoveryFinding[];
  readonly damaged: DamagedRange[];
}

interface Candidate {
  readonly base: Offset;
  readonly path: string;
  readonly header: SegmentHeader | null;
  readonly footer: SegmentFooter | null;
}

/**
 * Brings a partition's folder back to a state that can be written on, in this order:
 *
 *   1. leftovers (`*.tmp`) go; the hard state is read, or created if the folder is new
 *   2. segments that a snapshot replaced, that lie below the base, or that a begun cut drops are removed
 *   3. sealed segments are taken by their footer, or scanned when it is bad
 *   4. the last segment is scanned: a torn write is saved aside and cut, damage is reported and left alone
 *   5. a log shorter than the durable watermark, or with a gap between files, is damage too
 *
 * Whatever it writes can be done again: a crash in the middle is followed by the same recovery.
 *
 * @throws TidelineError `storage-damaged` when the hard state is lost, `unsupported-version`
 */
export const recoverPartition = (place: RecoveryPlace): RecoveredLog => {
  const { fs, directory, group } = place;
  if (!fs.existsSync(directory)) {
    fs.mkdirSync(directory);
    fs.syncDirectorySync(directory.slice(0, Math.max(directory.lastIndexOf('/'), 0)) || '/');
  }
  for (const name of fs.readdirSync(directory)) if (name.endsWith('.tmp')) fs.unlinkSync(`${directory}/${name}`);
  const findings: RecoveryFinding[] = [];
  const stateFile = openState(place);
  const { record } = stateFile;
  const candidates = liveCandidates(place, stateFile);
  const segments: Segment[] = [];
  const damaged: DamagedRange[] = [];

  const corruption = (file: string, gap: SegmentGap): void => {
    const { position, fromOffset, toOffset, reason } = gap;
    findings.push({ kind: 'corruption', file, position, fromOffset, toOffset, reason });
    const previous = damaged.at(-1);
    if (previous && previous.toOffset === null) return;
    damaged.push({ fromOffset, toOffset });
  };
  let expected = asOffset(record.baseOffset + 1);
  let previousTerm = record.baseTerm;
  let previousLogTime = record.baseLogTime;

  for (const [i, candidate] of candidates.entries()) {
    const isLast = i === candidates.length - 1;
    if (candidate.base > expected) {
      corruption(candidate.path, {
        position: 0,
        resumesAt: 0,
        fromOffset: expected,
        toOffset: candidate.base,
        reason: 'the segment before this one is missing or ends early',
      });
    } else if (i > 0 && candidate.base < expected) {
      throw new TidelineError(
        'storage-damaged',
        `${candidate.path} overlaps the segment before it, which goes on to offset ${expected - 1}. ` +
          `Move the partition's folder away and let this node fetch the partition from its peers.`,
        { details: { file: candidate.path, group } },
      );
    }
    const loaded =
      !isLast && candidate.header && candidate.footer && place.validate === 'tail'
        ? fromFooter(place, candidate, candidate.header, candidate.footer, findings)
        : fromScan(place, candidate, {
            isLast,
            nextBase: isLast ? null : candidates[i + 1].base,
            durable: record.durable,
            stopAfter: isLast ? record.truncateAfter : null,
            previousTerm,
            previousLogTime,
            knowsPrevious: candidate.base === expected,
            findings,
            corruption,
            nextIncarnation: record.nextIncarnation,
          });
    segments.push(loaded);
    record.nextIncarnation = Math.max(record.nextIncarnation, loaded.incarnation + 1);
    expected = asOffset(loaded.lastOffset + 1);
    if (!isLast && damaged.at(-1)?.toOffset === candidates[i + 1].base) expected = candidates[i + 1].base;
    previousTerm = loaded.lastTerm;
    previousLogTime = loaded.lastLogTime;
  }

  const last = segments.at(-1);
  const lastOffset = Math.max(last?.lastOffset ?? 0, record.baseOffset);
  if (record.truncateAfter !== null && damaged.at(-1)?.toOffset !== null) {
    // A watermark beyond the cut stays: it is of a repair, whose batches were to follow, see PersistRequest.promisedUpTo.
    record.truncateAfter = null;
    stateFile.saveSync();
  }
  if (lastOffset < record.durable && damaged.at(-1)?.toOffset !== null && !place.truncateOnAnyDamage) {
    corruption(last?.path ?? directory, {
      position: last?.dataEnd ?? 0,
      resumesAt: null,
      fromOffset: asOffset(lastOffset + 1),
      toOffset: null,
      reason: `the log ends at offset ${lastOffset}, but was durable up to ${record.durable}`,
    });
  }
  // Names, too, may be in memory only.
  fs.syncDirectorySync(directory);
  return { stateFile, segments, findings, damaged };
};

const openState = (place: RecoveryPlace): StateFile => {
  const { fs, directory, group } = place;
  if (fs.existsSync(`${directory}/${STATE_FILE}`)) return StateFile.openSync(fs, directory, group).file;
  const hasLog = fs.readdirSync(directory).some((name) => parseSegmentFileName(name) !== null);
  if (hasLog || listCheckpointsSync(fs, directory).length > 0) {
    throw new TidelineError(
      'storage-damaged',
      `${directory}/${STATE_FILE} is missing, but there is a log. This node does not know how it voted, so it must not take part under its id again: ` +
        `restore the file from a copy of the disk, or remove this node from the cluster and add it under a new id with an empty directory.`,
      { details: { file: `${directory}/${STATE_FILE}`, group } },
    );
  }
  return StateFile.createSync(fs, directory, group);
};

/** The segments that are part of the log, ascending. Dead ones are removed. */
const liveCandidates = (place: RecoveryPlace, stateFile: StateFile): Candidate[] => {
  const { fs, directory } = place;
  const { record } = stateFile;
  let live: Candidate[] = [];
  const dead: string[] = [];
  for (const name of fs.readdirSync(directory)) {
    const base = parseSegmentFileName(name);
    if (base === null) continue;
    const candidate = inspect(place, base);
    if (candidate.header && candidate.header.incarnation < record.minIncarnation) dead.push(candidate.path);
    else live.push(candidate);
  }
  while (live.length > 1 && live[1].base <= record.baseOffset + 1) dead.push(live.shift()!.path);
  const cut = record.truncateAfter;
  if (cut !== null) {
    const dropped = live.filter((candidate) => candidate.base > cut);
    live = live.filter((candidate) => candidate.base <= cut);
    dead.push(...dropped.map((candidate) => candidate.path).toReversed());
  }
  for (const path of dead) {
    for (const file of [indexPath(path), timeIndexPath(path), path]) if (fs.existsSync(file)) fs.unlinkSync(file);
  }
  if (dead.length > 0) fs.syncDirectorySync(directory);
  return live;
};

const inspect = (place: RecoveryPlace, base: Offset): Candidate => {
  const path = `${place.directory}/${segmentFileName(base)}`;
  const file = place.fs.openSync(path, { readOnly: true });
  try {
    const decoded = decodeSegmentHeader(file.readSync(SEGMENT_HEADER_BYTES, 0));
    if (decoded && decoded.version !== SEGMENT_VERSION) {
      throw new TidelineError(
        'unsupported-version',
        `${path} has version ${decoded.version}, this program knows ${SEGMENT_VERSION}: start it with the program that wrote it.`,
        { details: { file: path } },
      );
    }
    const header = decoded && decoded.group === place.group && decoded.base === base ? decoded : null;
    return { base, path, header, footer: header && readFooter(file, header) };
  } finally {
    file.closeSync();
  }
};

/** The footer at the end of the file, if it is this segment's. */
export const readFooter = (file: DiskFile, header: SegmentHeader): SegmentFooter | null => {
  const size = file.sizeSync();
  if (size < SEGMENT_HEADER_BYTES + 8) return null;
  const length = readU32(file.readSync(4, size - 4), 0);
  if (length > Math.min(FOOTER_BYTES_MAX, size - SEGMENT_HEADER_BYTES)) return null;
  const footer = decodeSegmentFooter(file.readSync(length, size - length));
  return footer && footerBelongs(footer, header, size - length) ? footer : null;
};

const fromFooter = (
  place: RecoveryPlace,
  candidate: Candidate,
  header: SegmentHeader,
  footer: SegmentFooter,
  findings: RecoveryFinding[],
): Segment => {
  const segment = new Segment(place.group, candidate.base, candidate.path, header);
  segment.takeFooter(footer);
  if (!place.fs.existsSync(indexPath(segment.path)) || !place.fs.existsSync(timeIndexPath(segment.path))) {
    rebuildIndex(place, segment);
    findings.push({ kind: 'index-rebuilt', file: indexPath(segment.path) });
  }
  return segment;
};

/** Reads the whole segment once more to make its index; saved for the next start if that is possible. */
export const rebuildIndex = (
  place: Pick<RecoveryPlace, 'fs' | 'group' | 'indexIntervalBytes'>,
  segment: Segment,
): void => {
  const index = new OffsetIndex(place.indexIntervalBytes);
  const file = place.fs.openSync(segment.path, { readOnly: true });
  try {
    scanSegment(file, {
      group: place.group,
      base: segment.base,
      visit: (frame) => {
        const { bytes, batchAt } = frame;
        if (batchLastOffset(bytes, batchAt) <= segment.lastOffset) {
          index.add(batchFirstOffset(bytes, batchAt), frame, batchLogTime(bytes, batchAt));
        }
      },
    });
  } finally {
    file.closeSync();
  }
  segment.index = index;
  if (!segment.sealed) return;
  try {
    index.saveSync(place.fs, segment.path, segment);
  } catch {
    // A cache that cannot be saved is made again next time.
  }
};

interface ScanContext {
  readonly isLast: boolean;
  readonly nextBase: Offset | null;
  readonly durable: Offset;
  readonly stopAfter: Offset | null;
  readonly previousTerm: Term;
  readonly previousLogTime: LogTime;
  /** previousTerm and previousLogTime are those of the batch right before this segment. */
  readonly knowsPrevious: boolean;
  readonly nextIncarnation: number;
  readonly findings: RecoveryFinding[];
  readonly corruption: (file: string, gap: SegmentGap) => void;
}

const fromScan = (place: RecoveryPlace, candidate: Candidate, context: ScanContext): Segment => {
  const { fs, group } = place;
  const { base, path } = candidate;
  const { isLast, findings } = context;
  const file = fs.openSync(path, { synced: true });
  try {
    let index = new OffsetIndex(place.indexIntervalBytes);
    let firstPrevious = -1;
    let firstEnd = base;
    const scanAll = (): SegmentScan => {
      index = new OffsetIndex(place.indexIntervalBytes);
      firstPrevious = -1;
      return scanSegment(file, {
        group,
        base,
        stopAfter: context.stopAfter,
        previousTerm: context.previousTerm,
        visit: (frame) => {
          const { bytes, batchAt } = frame;
          if (frame.position === SEGMENT_HEADER_BYTES) {
            firstPrevious = framePrevious(bytes, batchAt - FRAME_HEADER_BYTES);
            firstEnd = asOffset(batchLastOffset(bytes, batchAt) + 1);
          }
          index.add(batchFirstOffset(bytes, batchAt), frame, batchLogTime(bytes, batchAt));
        },
      });
    };
    let scan = scanAll();
    const tear = isLast && context.stopAfter === null ? scan.gaps[0] : undefined;
    if (
      tear &&
      (place.truncateOnAnyDamage || isTornWrite(file, scan, tear, { group, base, durable: context.durable }))
    ) {
      findings.push(cutTornTail(place, file, path, tear.position));
      scan = scanAll();
    }

    let header = candidate.header;
    if (header === null) {
      header = restoreHeader(place, file, candidate, scan, context, firstPrevious);
      if (header) findings.push({ kind: 'metadata-rebuilt', file: path, reason: 'the segment header was damaged' });
      else {
        const fallback = {
          incarnation: scan.incarnation,
          previousTerm: context.previousTerm,
          previousLogTime: context.previousLogTime,
        };
        header = decodeSegmentHeader(encodeSegmentHeader({ group, base, ...fallback }))!;
        if (scan.gaps[0]?.position !== SEGMENT_HEADER_BYTES) {
          const toOffset = firstEnd > base ? firstEnd : null;
          context.corruption(path, {
            position: 0,
            resumesAt: null,
            fromOffset: base,
            toOffset,
            reason: 'the segment header is damaged',
          });
        }
      }
    }
    const segment = new Segment(group, base, path, header);
    segment.takeScan(scan);
    segment.index = index;
    if (scan.batches === 0) {
      segment.lastTerm = header.previousTerm;
      segment.lastLogTime = header.previousLogTime;
    }
    // What follows the last offset before the next file is surplus: a repair put the next file there.
    const gaps = scan.gaps.filter((gap) => gap.toOffset !== null || gap.fromOffset !== context.nextBase);
    for (const gap of gaps) {
      context.corruption(
        path,
        gap.toOffset === null && context.nextBase !== null ? { ...gap, toOffset: context.nextBase } : gap,
      );
    }
    if (scan.footer && context.stopAfter === null) segment.sealed = true;
    if (!isLast && !segment.sealed) {
      if (gaps.length === 0 && segment.lastOffset + 1 === context.nextBase) {
        const footer = segment.footer();
        file.writeSync(footer, segment.dataEnd);
        file.truncateSync(segment.dataEnd + footer.length);
        file.syncSync();
        findings.push({ kind: 'metadata-rebuilt', file: path, reason: 'the segment footer was damaged' });
      }
      segment.sealed = true;
    }
    if (context.stopAfter !== null && scan.gaps.at(-1)?.toOffset !== null) {
      file.truncateSync(segment.dataEnd);
      file.syncSync();
    }
    // What was read may be in the page cache only, after a write that failed or a process that was killed: from here on it counts as durable.
    file.syncSync();
    return segment;
  } finally {
    file.closeSync();
  }
};

/** A header is wholly known from its neighbour and its frames; the first frame's chain proves it. */
const restoreHeader = (
  place: RecoveryPlace,
  file: DiskFile,
  candidate: Candidate,
  scan: SegmentScan,
  context: ScanContext,
  firstPrevious: number,
): SegmentHeader | null => {
  if (!context.knowsPrevious) return null;
  const isEmpty = scan.batches === 0 && scan.gaps.length === 0;
  if (isEmpty && (!context.isLast || context.durable >= candidate.base)) return null;
  const bytes = encodeSegmentHeader({
    group: place.group,
    base: candidate.base,
    incarnation: isEmpty ? context.nextIncarnation : scan.incarnation,
    previousTerm: context.previousTerm,
    previousLogTime: context.previousLogTime,
  });
  const header = decodeSegmentHeader(bytes)!;
  if (!isEmpty && header.crc !== firstPrevious) return null;
  file.writeSync(bytes, 0);
  return header;
};

const cutTornTail = (place: RecoveryPlace, file: DiskFile, path: string, position: number): RecoveryFinding => {
  const { fs, directory } = place;
  const end = Math.max(endOfData(file, position), position);
  const savedAs = `${path.replace(/\.log$/, '')}.${position}.torn`;
  const aside = fs.openSync(savedAs, { create: true, synced: true });
  aside.truncateSync(0);
  if (end > position) aside.writeSync(file.readSync(end - position, position), 0);
  aside.syncSync();
  aside.closeSync();
  const kept = fs.readdirSync(directory).filter((name) => name.endsWith('.torn'));
  for (const name of kept.slice(0, Math.max(0, kept.length - TORN_FILES_MAX))) fs.unlinkSync(`${directory}/${name}`);
  fs.syncDirectorySync(directory);
  file.truncateSync(position);
  file.syncSync();
  return { kind: 'torn-tail', file: path, position, bytes: end - position, savedAs };
};
