import { TidelineError, asOffset, type GroupId, type NodeId, type Offset } from '#kernel';
import { CHECKPOINTS_KEPT, listCheckpointsSync, readCheckpointSync, checkpointFileName } from './checkpoint-file.js';
import { META_FILE, parseGroupDirectoryName, readNodeMeta, type NodeMeta } from './data-directory.js';
import type { DiskFile, FileSystem } from './file-system.js';
import { OffsetIndex, indexPath } from './offset-index.js';
import { SEGMENT_HEADER_BYTES, parseSegmentFileName, segmentFileName } from './segment-format.js';
import { endOfData, scanSegment, type SegmentScan } from './segment-scan.js';
import { STATE_FILE, inspectState, type StateRecord } from './state-file.js';
import { isTornWrite } from './tear.js';

/**
 * `damage`: data is not what it was; the node must not be trusted with it as it is. `warning`: the next start deals with it by itself.
 */
export type ProblemSeverity = 'damage' | 'warning';

export interface DirectoryProblem {
  readonly severity: ProblemSeverity;
  readonly file: string;
  /** Byte in the file; null when the whole file is meant. */
  readonly position: number | null;
  readonly group: GroupId | null;
  /** First and last record offset concerned, as far as they are known. */
  readonly fromOffset: Offset | null;
  readonly toOffset: Offset | null;
  readonly what: string;
  readonly advice: string;
}

export interface GroupReport {
  readonly group: GroupId;
  readonly directory: string;
  readonly segments: number;
  readonly bytes: number;
  readonly batches: number;
  readonly baseOffset: Offset;
  readonly lastOffset: Offset;
  readonly term: number;
  readonly vote: NodeId;
  readonly commit: Offset;
  readonly durable: Offset;
  readonly checkpoints: readonly Offset[];
}

export interface DirectoryReport {
  readonly directory: string;
  /** A process uses the directory: what is being written may look torn. */
  readonly inUse: boolean;
  readonly nodeId: NodeId | null;
  readonly clusterId: string | null;
  readonly version: number | null;
  readonly groups: readonly GroupReport[];
  readonly problems: readonly DirectoryProblem[];
  /** No damage (there may be warnings). */
  readonly ok: boolean;
}

const FROM_PEERS =
  'start the node: it fetches the range from its peers; on a single node restore the directory from a copy';
const BY_ITSELF = 'nothing; the next start takes care of it';
const NEW_NODE =
  'restore the file from a copy of the disk, or remove this node from the cluster and add it under a new id with an empty directory';

/**
 * Reads everything in a data directory and says what is wrong with it. Changes nothing but, for as long as it runs, the lock.
 * @throws TidelineError `bad-option` when there is no such directory
 */
export const verifyDataDirectory = (fs: FileSystem, directory: string): DirectoryReport => {
  if (!fs.existsSync(directory)) throw new TidelineError('bad-option', `${directory} does not exist`);
  const problems: DirectoryProblem[] = [];
  let lock: { release(): void } | null = null;
  try {
    lock = fs.lockSync(directory);
  } catch (error) {
    if (!(error instanceof TidelineError && error.code === 'directory-locked')) throw error;
  }
  try {
    const meta = verifyMeta(fs, directory, problems);
    const groups: GroupReport[] = [];
    for (const name of fs.readdirSync(directory)) {
      const group = parseGroupDirectoryName(name);
      if (group !== null) groups.push(new GroupVerifier(fs, `${directory}/${name}`, group, problems).run());
    }
    return {
      directory,
      inUse: lock === null,
      nodeId: meta?.nodeId ?? null,
      clusterId: meta?.clusterId ?? null,
      version: meta?.version ?? null,
      groups,
      problems,
      ok: !problems.some((problem) => problem.severity === 'damage'),
    };
  } finally {
    lock?.release();
  }
};

const verifyMeta = (fs: FileSystem, directory: string, problems: DirectoryProblem[]): NodeMeta | null => {
  const file = `${directory}/${META_FILE}`;
  const bad = (what: string, advice: string): null => {
    problems.push({
      severity: 'damage',
      file,
      position: null,
      group: null,
      fromOffset: null,
      toOffset: null,
      what,
      advice,
    });
    return null;
  };
  if (!fs.existsSync(file)) return bad('the file is missing: this is no data directory, or not a whole one', NEW_NODE);
  try {
    return readNodeMeta(fs, directory);
  } catch (error) {
    const isNewer = error instanceof TidelineError && error.code === 'unsupported-version';
    return bad((error as Error).message, isNewer ? 'use the program that wrote it' : NEW_NODE);
  }
};

class GroupVerifier {
  private state: StateRecord | null = null;
  private bytes = 0;
  private batches = 0;
  private segments = 0;
  private lastOffset = asOffset(0);

  constructor(
    private readonly fs: FileSystem,
    private readonly directory: string,
    private readonly group: GroupId,
    private readonly problems: DirectoryProblem[],
  ) {}

  run(): GroupReport {
    this.verifyState();
    this.verifySegments();
    const checkpoints = this.verifyCheckpoints();
    for (const name of this.fs.readdirSync(this.directory)) {
      if (name.endsWith('.torn')) {
        this.report(
          'warning',
          name,
          null,
          'the end of a write that a crash cut short, kept for inspection',
          'delete it when it is of no interest',
        );
      } else if (name.endsWith('.tmp')) {
        this.report('warning', name, null, 'a file that was not finished', BY_ITSELF);
      }
    }
    return {
      group: this.group,
      directory: this.directory,
      segments: this.segments,
      bytes: this.bytes,
      batches: this.batches,
      baseOffset: this.state?.baseOffset ?? asOffset(0),
      lastOffset: this.lastOffset,
      term: this.state?.term ?? 0,
      vote: this.state?.vote ?? (0 as NodeId),
      commit: this.state?.commit ?? asOffset(0),
      durable: this.state?.durable ?? asOffset(0),
      checkpoints,
    };
  }

  private report(
    severity: ProblemSeverity,
    name: string,
    position: number | null,
    what: string,
    advice: string,
    offsets: { readonly from: Offset | null; readonly to: Offset | null } = { from: null, to: null },
  ): void {
    const file = `${this.directory}/${name}`;
    const { group } = this;
    this.problems.push({
      severity,
      file,
      position,
      group,
      fromOffset: offsets.from,
      toOffset: offsets.to,
      what,
      advice,
    });
  }

  private open<T>(name: string, use: (file: DiskFile) => T): T {
    const file = this.fs.openSync(`${this.directory}/${name}`, { readOnly: true });
    try {
      return use(file);
    } finally {
      file.closeSync();
    }
  }

  private verifyState(): void {
    if (!this.fs.existsSync(`${this.directory}/${STATE_FILE}`)) {
      if (this.fs.readdirSync(this.directory).length === 0) return;
      return this.report(
        'damage',
        STATE_FILE,
        null,
        'the hard state is missing: it is not known how this node voted',
        NEW_NODE,
      );
    }
    const inspection = this.open(STATE_FILE, (file) => inspectState(file.readSync(file.sizeSync(), 0), this.group));
    this.state = inspection.state;
    if (inspection.unusable !== null) return this.report('damage', STATE_FILE, 0, inspection.unusable, NEW_NODE);
    for (const position of inspection.badCopies) {
      this.report(
        'warning',
        STATE_FILE,
        position,
        'one of four copies of the hard state is damaged; its twin is good',
        BY_ITSELF,
      );
    }
    if (inspection.uneven) {
      this.report(
        'warning',
        STATE_FILE,
        null,
        'a save of the hard state was cut short; the copies differ and the newest counts',
        BY_ITSELF,
      );
    }
  }

  private verifySegments(): void {
    const state = this.state;
    const cut = state?.truncateAfter ?? null;
    if (cut !== null) {
      this.report(
        'warning',
        STATE_FILE,
        null,
        `cutting the log after offset ${cut} was begun and not finished`,
        BY_ITSELF,
      );
    }
    const bases = this.fs
      .readdirSync(this.directory)
      .map(parseSegmentFileName)
      .filter((base) => base !== null);
    let expected = asOffset((state?.baseOffset ?? 0) + 1);
    this.lastOffset = state?.baseOffset ?? asOffset(0);
    let first = true;
    for (const [i, base] of bases.entries()) {
      const name = segmentFileName(base);
      const isLast = i === bases.length - 1;
      const isLeftover = (cut !== null && base > cut) || (!isLast && bases[i + 1] <= (state?.baseOffset ?? 0) + 1);
      if (isLeftover) {
        this.report(
          'warning',
          name,
          null,
          'the segment is no longer part of the log; removing it was not finished',
          BY_ITSELF,
        );
        continue;
      }
      const scan = this.open(name, (file) =>
        this.verifySegment(file, { base, isLast, nextBase: bases[i + 1] ?? null, stopAfter: isLast ? cut : null }),
      );
      if (scan === null) continue;
      if (base > expected) {
        const to = asOffset(base - 1);
        this.report('damage', name, 0, 'the segment before this one is missing or ends early', FROM_PEERS, {
          from: expected,
          to,
        });
      } else if (!first && base < expected) {
        this.report(
          'damage',
          name,
          0,
          `it overlaps the segment before it, which ends at offset ${expected - 1}`,
          NEW_NODE,
          { from: base, to: asOffset(expected - 1) },
        );
      }
      first = false;
      this.segments++;
      this.bytes += scan.dataEnd;
      this.batches += scan.batches;
      this.lastOffset = asOffset(Math.max(this.lastOffset, scan.lastOffset));
      const openEnd = scan.gaps.at(-1)?.toOffset === null;
      expected = openEnd && !isLast ? bases[i + 1] : asOffset(Math.max(expected, scan.lastOffset + 1));
      if (isLast && openEnd) return;
    }
    if (state && cut === null && this.lastOffset < state.durable) {
      const name = bases.length > 0 ? segmentFileName(bases[bases.length - 1]) : STATE_FILE;
      const what = `the log ends at offset ${this.lastOffset}, but was durable up to ${state.durable}`;
      this.report('damage', name, null, what, FROM_PEERS, { from: asOffset(this.lastOffset + 1), to: state.durable });
    }
  }

  private verifySegment(
    file: DiskFile,
    place: {
      readonly base: Offset;
      readonly isLast: boolean;
      readonly nextBase: Offset | null;
      readonly stopAfter: Offset | null;
    },
  ): SegmentScan | null {
    const { base, isLast } = place;
    const { group } = this;
    const name = segmentFileName(base);
    const scan = scanSegment(file, { group, base, stopAfter: place.stopAfter });
    if (this.state && scan.header && scan.header.incarnation < this.state.minIncarnation) {
      this.report('warning', name, null, 'a snapshot replaced this segment; removing it was not finished', BY_ITSELF);
      return null;
    }
    if (scan.header === null) {
      this.report(
        'damage',
        name,
        0,
        'the segment header is damaged',
        `${FROM_PEERS}; often the header can be made again`,
        { from: base, to: null },
      );
    }
    for (const gap of scan.gaps) {
      if (gap.toOffset === null && gap.fromOffset === place.nextBase) continue;
      const end = gap.resumesAt ?? endOfData(file, gap.position);
      const range = { from: gap.fromOffset, to: gap.toOffset === null ? null : asOffset(gap.toOffset - 1) };
      const span = `${Math.max(0, end - gap.position)} bytes`;
      const torn = isLast && isTornWrite(file, scan, gap, { group, base, durable: this.state?.durable ?? asOffset(0) });
      if (torn) {
        this.report(
          'warning',
          name,
          gap.position,
          `a write that a crash cut short (${span}); it was never acknowledged`,
          BY_ITSELF,
          range,
        );
        break;
      }
      this.report('damage', name, gap.position, `${gap.reason} (${span})`, FROM_PEERS, range);
    }
    if (!isLast && scan.footer === null) {
      this.report('warning', name, scan.dataEnd, 'the footer of the segment is missing or damaged', BY_ITSELF);
    }
    if (scan.footer !== null) {
      const path = `${this.directory}/${name}`;
      const sealed = { group, base, incarnation: scan.incarnation, dataEnd: scan.footer.position };
      if (scan.dataEnd > SEGMENT_HEADER_BYTES && OffsetIndex.loadSync(this.fs, path, sealed, 1) === null) {
        const index = indexPath(path).slice(this.directory.length + 1);
        this.report('warning', index, null, 'the index is missing or bad', 'nothing; it is a cache and is made again');
      }
    }
    return scan;
  }

  private verifyCheckpoints(): Offset[] {
    const good: Offset[] = [];
    const all = listCheckpointsSync(this.fs, this.directory);
    for (const offset of all) {
      const checkpoint = readCheckpointSync(this.fs, this.directory, this.group, offset);
      if (typeof checkpoint === 'string') {
        const advice =
          (this.state?.baseOffset ?? 0) === 0
            ? 'nothing; the log is read from its start instead'
            : 'start the node: it uses the other checkpoint, or asks its peers';
        this.report('damage', checkpointFileName(offset), 0, checkpoint, advice, { from: offset, to: offset });
      } else good.push(offset);
    }
    if (all.length > CHECKPOINTS_KEPT + 1) {
      this.report(
        'warning',
        checkpointFileName(all[all.length - 1]),
        null,
        'more checkpoints than are kept',
        BY_ITSELF,
      );
    }
    return good;
  }
}
