import { beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng, asGroupId, asNodeId, asOffset, asTerm } from '#kernel';
import { openDataDirectory } from './data-directory.js';
import { openPartitionLog } from './segmented-log.js';
import { sampleBatches } from './testing/sample-batch.js';
import { SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';
import { verifyDataDirectory, type DirectoryProblem } from './verify.js';

const GROUP = asGroupId(3);
const GROUP_DIRECTORY = 'data/group-0000000003';
const META = 'data/node.meta';
const STATE = `${GROUP_DIRECTORY}/state`;
const BATCHES = 60;

/**
 * A data directory with several segments, two checkpoints and everything closed in order; then one thing is damaged, in every way that the simulated
 * disk knows, and `verify` must find it, name file and place, and say what to do.
 */
describe('verify', () => {
  let disk: SimulatedDisk;

  const paths = (suffix: string): string[] => disk.files().filter((path) => path.endsWith(suffix));
  const problems = (): readonly DirectoryProblem[] => verifyDataDirectory(disk, 'data').problems;
  const lengthOf = (path: string): number => disk.contents(path).length;

  beforeEach(() => {
    const scheduler = new StepScheduler();
    disk = new SimulatedDisk(scheduler, new SeededRng(9));
    const directory = openDataDirectory({ fs: disk, directory: 'data', nodeId: asNodeId(1), clusterId: 'spec' });
    const log = openPartitionLog({
      fs: disk,
      directory: directory.groupDirectory(GROUP),
      group: GROUP,
      scheduler,
      clock: scheduler,
      options: { segmentBytes: 8192, preallocateFirstBytes: 0, preallocateBytes: 0, indexIntervalBytes: 512 },
    });
    const wait = (start: (done: (error: Error | null) => void) => void): void => {
      let ended = false;
      start((error) => {
        if (error) throw error;
        ended = true;
      });
      scheduler.runUntil(() => ended);
    };
    wait((done) =>
      log.persist({ state: { term: asTerm(1), vote: asNodeId(2), commit: asOffset(0) }, batches: [] }, done),
    );
    for (const batch of sampleBatches(BATCHES, { group: GROUP, firstOffset: 1, valueBytes: 300 })) {
      wait((done) => log.persist({ batches: [batch] }, done));
    }
    for (const offset of [20, 40]) {
      wait((done) =>
        log.saveCheckpoint({ offset: asOffset(offset), term: asTerm(1), bytes: Buffer.alloc(5000, offset) }, done),
      );
    }
    wait((done) => log.close(() => done(null)));
    directory.close();
  });

  test('finds nothing wrong where nothing is', () => {
    expect(verifyDataDirectory(disk, 'data')).toMatchObject({ ok: true, problems: [] });
    expect(paths('.log').length).toBeGreaterThan(2);
    expect(paths('.checkpoint')).toHaveLength(2);
  });

  /** The file in question is named, with a place in it if there is one, and what to do is said. */
  const expectFound = (path: string, place: { readonly from: number; readonly to: number } | null = null): void => {
    const found = problems().filter(({ file }) => file === path);
    expect(found).not.toEqual([]);
    for (const { what, advice } of found) {
      expect(what).not.toBe('');
      expect(advice).not.toBe('');
    }
    if (place === null) return;
    const positions = found.flatMap(({ position }) => (position === null ? [] : [position]));
    expect(positions.some((position) => position >= place.from && position <= place.to)).toBe(true);
  };

  type Strike = (path: string) => { readonly from: number; readonly to: number } | null;
  /** Where a damaged place is reported at: the frame that contains it begins at most a batch before. */
  const FRAME_BYTES = 600;
  const around = (position: number): { from: number; to: number } => ({ from: position - FRAME_BYTES, to: position });

  const onSegments: [string, Strike][] = [
    ['a flipped bit', (path) => (disk.flipBit(path, 3000, 5), around(3000))],
    ['zeros', (path) => (disk.zero(path, 2000, 1000), around(2000))],
    ['a stale page', (path) => (expect(disk.restoreStalePage(path, 0)).toBe(true), around(4096))],
    [
      'a misdirected write',
      (path) => (disk.misdirect({ path, position: 0 }, { path, position: 4096 }, 4096), around(4096)),
    ],
    ['truncation', (path) => (disk.cutShort(path, 2500), around(2500))],
  ];

  test.each(onSegments)('finds %s in any segment, and names file and place', (_name, strike) => {
    for (const path of paths('.log')) {
      if (lengthOf(path) < 8000) continue;
      const before = disk.contents(path);
      const place = strike(path);
      // What a file has lost at its end is told at the file that comes after it, too.
      expectFound(path, place);
      expect(verifyDataDirectory(disk, 'data').ok).toBe(false);
      if (lengthOf(path) === before.length) disk.overwrite(path, before);
      else break;
    }
  });

  test('finds a lost segment, at the one that comes after it, and the offsets that are gone', () => {
    const [first, second, third] = paths('.log');
    disk.lose(second);
    const base = (path: string): number => Number(/(\d{20})\.log$/.exec(path)![1]);
    expect(problems()).toContainEqual(
      expect.objectContaining({
        severity: 'damage',
        file: third,
        fromOffset: base(second),
        toOffset: base(third) - 1,
        advice: expect.stringContaining('fetches the range from its peers'),
      }),
    );
    disk.lose(first);
    expect(problems().filter(({ severity }) => severity === 'damage')).not.toEqual([]);
  });

  test('finds that the last segment is gone by the watermark', () => {
    disk.lose(paths('.log').at(-1)!);
    expect(problems()).toContainEqual(
      expect.objectContaining({ severity: 'damage', what: expect.stringContaining(`durable up to ${BATCHES}`) }),
    );
  });

  const onOthers: [string, (path: string) => void][] = [
    ['a flipped bit', (path) => disk.flipBit(path, 20, 1)],
    ['zeros', (path) => disk.zero(path, 0, Math.min(4096, lengthOf(path)))],
    ['truncation', (path) => disk.cutShort(path, Math.floor(lengthOf(path) / 2))],
    [
      'a misdirected write',
      (path) => {
        const other = paths('.log')[0];
        disk.misdirect({ path: other, position: 0 }, { path, position: 0 }, Math.min(4096, lengthOf(path)));
      },
    ],
  ];

  test.each(onOthers)('finds %s in hard state, checkpoints, indexes and the meta file', (_name, strike) => {
    for (const path of [STATE, ...paths('.checkpoint'), ...paths('.index'), META]) {
      if (lengthOf(path) === 0) continue;
      strike(path);
      expectFound(path);
    }
  });

  test('finds lost files, and a rename that was lost', () => {
    const [index] = paths('.index');
    disk.lose(index);
    expectFound(index);
    disk.lose(STATE);
    expect(problems()).toContainEqual(
      expect.objectContaining({
        severity: 'damage',
        file: STATE,
        advice: expect.stringContaining('under a new id'),
      }),
    );
    disk.lose(META);
    expectFound(META);
  });

  test('tells a leftover of an unfinished step from damage', () => {
    disk.openSync(`${GROUP_DIRECTORY}/00000000000000000050.checkpoint.tmp`, { create: true }).closeSync();
    expect(problems()).toMatchObject([{ severity: 'warning', advice: expect.stringContaining('next start') }]);
    expect(verifyDataDirectory(disk, 'data').ok).toBe(true);
  });
});
