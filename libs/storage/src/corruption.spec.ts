import { beforeEach, describe, expect, test } from '@jest/globals';
import { SeededRng, asGroupId, asLogTime, asNodeId, asOffset, asTerm, randomBelow } from '#kernel';
import { batchFirstOffset, forEachBatch } from '#wire';
import type { PartitionLogOptions } from './partition-log-options.js';
import type { PartitionLog, PersistRequest } from './partition-log.js';
import { openPartitionLog } from './segmented-log.js';
import { sampleBatch, sampleBatches } from './testing/sample-batch.js';
import { SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';
import { verifyDataDirectory } from './verify.js';

const GROUP = asGroupId(3);
const DIRECTORY = 'data/group-0000000003';
const segment = (base: number): string => `${DIRECTORY}/${String(base).padStart(20, '0')}.log`;
const STATE = `${DIRECTORY}/state`;
/** 72 of batch header, 44 of frame, 2 + 6 + 1 + 300 of record, more or less: several frames in a page. */
const VALUE_BYTES = 300;

describe('damage at rest', () => {
  let scheduler: StepScheduler;
  let disk: SimulatedDisk;
  let log: PartitionLog;

  const open = (options: Partial<PartitionLogOptions> = {}): PartitionLog => {
    log = openPartitionLog({
      fs: disk,
      directory: DIRECTORY,
      group: GROUP,
      scheduler,
      clock: scheduler,
      options: {
        segmentBytes: 32 * 1024,
        preallocateFirstBytes: 8192,
        preallocateBytes: 8192,
        indexIntervalBytes: 1024,
        tailCacheBytes: 0,
        watermarkDelayMs: 5,
        ...options,
      },
    });
    return log;
  };
  const wait = <T>(start: (done: (error: Error | null, value?: T) => void) => void): T => {
    let result: { error: Error | null; value?: T } | null = null;
    start((error, value) => {
      result = { error, ...(value !== undefined && { value }) };
    });
    if (!scheduler.runUntil(() => result !== null)) throw new Error('no answer');
    const { error, value } = result!;
    if (error) throw error;
    return value as T;
  };
  const persist = (request: Partial<PersistRequest>): void =>
    wait((done) => log.persist({ batches: [], ...request }, done));
  const read = (from: number, bytesMax = 1): Buffer =>
    wait<Buffer>((done) => log.read({ from: asOffset(from), to: asOffset(1e9), bytesMax }, done));
  /** Every batch is in the log once, in order, and can be read. */
  const expectAllBatches = (): void => {
    const scanned: number[] = [];
    log.scanHeadersSync(asOffset(1), (header) => scanned.push(batchFirstOffset(header)));
    expect(scanned).toEqual(batches.map((_, i) => i + 1));
    expect(batches.filter((_, i) => !readable(i + 1))).toEqual([]);
  };
  const readable = (from: number): boolean => {
    try {
      return batchFirstOffset(read(from)) === from;
    } catch (error) {
      expect(error).toMatchObject({ code: 'storage-damaged' });
      return false;
    }
  };
  const close = (): void => wait((done) => log.close(() => done(null)));
  /** The process dies without a word; whether the watermark has caught up is up to the test. */
  const kill = (): void => {
    disk.stop();
    scheduler.clear();
    disk.restart();
  };
  const corruption = (): object | undefined => log.findings.find((finding) => finding.kind === 'corruption');
  /** Position of the frame of an offset, found by the bytes of its batch. */
  const frameOf = (base: number, offset: number): number => {
    const bytes = disk.durableBytes(segment(base))!;
    return bytes.indexOf(batches[offset - 1]) - 44;
  };
  /** 20 of them in one segment, one per write. */
  const batches = sampleBatches(20, { group: GROUP, firstOffset: 1, valueBytes: VALUE_BYTES });

  beforeEach(() => {
    scheduler = new StepScheduler();
    disk = new SimulatedDisk(scheduler, new SeededRng(5));
    disk.mkdirSync('data');
    open();
    persist({ state: { term: asTerm(1), vote: asNodeId(2), commit: asOffset(0) } });
    for (const batch of batches) persist({ batches: [batch] });
  });

  type Damage = (position: number, length: number) => void;
  const kinds: [string, Damage][] = [
    ['a flipped bit in the frame', (position) => disk.flipBit(segment(1), position + 9, 3)],
    ['a flipped bit in the batch header', (position) => disk.flipBit(segment(1), position + 44 + 20, 0)],
    ['a flipped bit in the payload', (position, length) => disk.flipBit(segment(1), position + length - 5, 7)],
    ['zeros', (position, length) => disk.zero(segment(1), position, length)],
    [
      'the bytes of another place',
      (position, length) =>
        disk.misdirect({ path: segment(1), position: frameOf(1, 2) }, { path: segment(1), position }, length),
    ],
  ];

  test.each(kinds)(
    '%s in the middle of the log is reported, not cut, and repaired from good batches',
    (_name, damage) => {
      kill();
      const position = frameOf(1, 8);
      damage(position, frameOf(1, 9) - position);
      open();
      expect(corruption()).toMatchObject({ file: segment(1), position, fromOffset: 8, toOffset: 9 });
      expect(log.damaged).toEqual([{ fromOffset: 8, toOffset: 9 }]);
      expect(log.lastOffset).toBe(20);
      expect([7, 8, 9, 20].map(readable)).toEqual([true, false, true, true]);
      const report = verifyDataDirectory(disk, 'data');
      expect(report.ok).toBe(false);
      expect(report.problems).toContainEqual(
        expect.objectContaining({ severity: 'damage', file: segment(1), position, fromOffset: 8, toOffset: 8 }),
      );
      // The log goes on meanwhile.
      persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 21 })] });
      wait((done) => log.repair([batches[7]], done));
      expect(log.damaged).toEqual([]);
      close();
      open();
      expect(log.findings).toEqual([]);
      expect(log.lastOffset).toBe(21);
      for (let offset = 1; offset <= 20; offset++) expect(read(offset).equals(batches[offset - 1])).toBe(true);
      expect(verifyDataDirectory(disk, 'data').problems.filter((problem) => problem.file.includes('group'))).toEqual(
        [],
      );
    },
  );

  test.each(kinds)('%s in the last batch is damage once the watermark has passed it', (_name, damage) => {
    scheduler.advance(10);
    const position = frameOf(1, 20);
    kill();
    damage(position, batches[19].length + 44);
    open();
    expect(corruption()).toMatchObject({ file: segment(1), position, fromOffset: 20, toOffset: null });
    expect(log.lastOffset).toBe(19);
    expect(log.damaged).toEqual([{ fromOffset: 20, toOffset: null }]);
    // Votes may be saved, batches may not be put over what was promised.
    persist({ state: { term: asTerm(9), vote: asNodeId(1), commit: asOffset(0) } });
    expect(() => persist({ batches: [batches[19]] })).toThrow('repair it before appending');
    wait((done) => log.repair([batches[19]], done));
    persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 21, term: 9 })] });
    close();
    open();
    expect(log.findings).toEqual([]);
    expect(log.state.term).toBe(9);
    expect(read(20).equals(batches[19])).toBe(true);
    expect(log.lastOffset).toBe(21);
  });

  test.each([
    ['next to each other', 9],
    ['apart', 14],
  ])(
    'two damaged places of one segment, %s, are repaired one after the other and nothing between them is lost',
    (_name, second) => {
      for (const crashBetween of [false, true]) {
        kill();
        disk.flipBit(segment(1), frameOf(1, 8) + 9, 3);
        disk.flipBit(segment(1), frameOf(1, second) + 150, 3);
        open();
        wait((done) => log.repair([batches[7]], done));
        if (crashBetween) {
          kill();
          open();
        }
        expect(log.damaged).toEqual([{ fromOffset: second, toOffset: second + 1 }]);
        wait((done) => log.repair([batches[second - 1]], done));
        expect(log.damaged).toEqual([]);
        expectAllBatches();
      }
    },
  );

  test.each([
    ['before it', 3],
    ['right before it', 7],
    ['right behind it', 9],
    ['far behind it', 14],
    ['in the last batch', 20],
  ])('a segment damaged once more, %s, while it waits for its repair is not taken for whole', (_name, second) => {
    scheduler.advance(10);
    kill();
    disk.flipBit(segment(1), frameOf(1, 8) + 150, 3);
    open();
    expect(log.damaged).toEqual([{ fromOffset: 8, toOffset: 9 }]);
    disk.flipBit(segment(1), frameOf(1, second) + 150, 3);
    wait((done) => log.repair([batches[7]], done));
    expect(log.damaged).toEqual([{ fromOffset: second, toOffset: second === 20 ? null : second + 1 }]);
    wait((done) => log.repair([batches[second - 1]], done));
    expect(log.damaged).toEqual([]);
    expectAllBatches();
    kill();
    open();
    expect(log.damaged).toEqual([]);
    expect(log.lastOffset).toBe(20);
  });

  test('a bad last batch with all its sectors written is damage even above the watermark: it was not torn', () => {
    kill();
    disk.flipBit(segment(1), frameOf(1, 20) + 150, 1);
    open();
    expect(log.damaged).toEqual([{ fromOffset: 20, toOffset: null }]);
  });

  test('a last batch that misses a sector is a torn write above the watermark: saved aside and cut', () => {
    const large = sampleBatch({ group: GROUP, firstOffset: 21, valueBytes: 5000 });
    persist({ batches: [large] });
    kill();
    const bytes = disk.durableBytes(segment(1))!;
    const position = bytes.indexOf(large) - 44;
    const sector = Math.ceil((position + 1024) / 512) * 512;
    disk.zero(segment(1), sector, 512);
    const report = verifyDataDirectory(disk, 'data');
    expect(report.problems.filter(({ file }) => file.endsWith('.log'))).toMatchObject([
      { severity: 'warning', position },
    ]);
    open();
    expect(log.findings).toMatchObject([{ kind: 'torn-tail', file: segment(1), position }]);
    expect(log.damaged).toEqual([]);
    expect(log.lastOffset).toBe(20);
    const torn = disk.files().find((name) => name.endsWith('.torn'))!;
    expect(disk.durableBytes(torn)!.subarray(0, 1000)).toEqual(bytes.subarray(position, position + 1000));
    persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 21, salt: 9 })] });
    close();
    open();
    expect(log.findings).toEqual([]);
    expect(log.lastOffset).toBe(21);
  });

  test('a lost write below a later one is damage, never a torn tail', () => {
    const large = sampleBatch({ group: GROUP, firstOffset: 21, valueBytes: 5000 });
    persist({ batches: [large] });
    persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 22 })] });
    kill();
    const position = disk.durableBytes(segment(1))!.indexOf(large) - 44;
    disk.zero(segment(1), Math.ceil((position + 1024) / 512) * 512, 512);
    open();
    expect(log.damaged).toEqual([{ fromOffset: 21, toOffset: 22 }]);
    expect(log.lastOffset).toBe(22);
  });

  test('a stale page, as it was before a cut, is told from what replaced it', () => {
    persist({ truncateAfter: asOffset(10) });
    const replaced = sampleBatches(10, { group: GROUP, firstOffset: 11, valueBytes: VALUE_BYTES, term: 1, salt: 1 });
    const old = disk.durableBytes(segment(1))!.length;
    for (const batch of replaced) persist({ batches: [batch] });
    scheduler.advance(10);
    kill();
    expect(old).toBeGreaterThan(4096);
    // Offsets, terms, lengths and places of the old frames fit; only the chain tells.
    let stale = 0;
    for (let page = 1; page < 2; page++) if (disk.restoreStalePage(segment(1), page)) stale++;
    expect(stale).toBe(1);
    open();
    expect(log.damaged.length).toBeGreaterThan(0);
  });

  test('a good frame of the time before a cut does not pass for its successor', () => {
    const page = disk.durableBytes(segment(1))!;
    const start = frameOf(1, 15);
    const end = frameOf(1, 16);
    const old = Buffer.from(page.subarray(start, end));
    persist({ truncateAfter: asOffset(14) });
    const replaced = sampleBatches(3, { group: GROUP, firstOffset: 15, valueBytes: VALUE_BYTES, salt: 1 });
    expect(replaced[0]).toHaveLength(batches[14].length);
    for (const batch of replaced) persist({ batches: [batch] });
    kill();
    const file = disk.openSync(segment(1), { synced: true });
    file.writeSync(old, start);
    file.closeSync();
    open();
    // The frame before it is the same as then, so it is the next one that no longer follows.
    expect(corruption()).toMatchObject({ fromOffset: 16, reason: expect.stringContaining('stale') });
    expect(log.damaged.length).toBe(1);
  });

  test('a log that is shorter than it was durable is damaged', () => {
    scheduler.advance(10);
    kill();
    disk.cutShort(segment(1), frameOf(1, 12));
    open();
    expect(log.lastOffset).toBe(11);
    expect(corruption()).toMatchObject({
      fromOffset: 12,
      toOffset: null,
      reason: expect.stringContaining('durable up to 20'),
    });
    wait((done) => log.repair(batches.slice(11), done));
    expect(log.lastOffset).toBe(20);
    close();
    open();
    expect(log.findings).toEqual([]);
    expect(read(20).equals(batches[19])).toBe(true);
  });

  test('a damaged end may be given up, and cut by Raft', () => {
    for (const way of ['repair', 'truncate'] as const) {
      scheduler.advance(10);
      kill();
      disk.flipBit(segment(1), frameOf(1, way === 'repair' ? 20 : 19) + 100, 2);
      open();
      expect(log.damaged.at(-1)?.toOffset).toBe(null);
      if (way === 'repair') wait((done) => log.repair([], done));
      else persist({ truncateAfter: asOffset(18) });
      expect(log.damaged).toEqual([]);
      close();
      open();
      expect(log.findings).toEqual([]);
      expect(log.lastOffset).toBe(way === 'repair' ? 19 : 18);
    }
  });

  test('a repair waits for the persist in flight, and a persist for the repair', () => {
    scheduler.advance(10);
    kill();
    disk.flipBit(segment(1), frameOf(1, 8) + 100, 2);
    Object.assign(disk.faults, { latencyMsMin: 1, latencyMsMax: 5 });
    open();
    const order: string[] = [];
    const note = (what: string) => (error: Error | null) => order.push(error ? error.message : what);
    log.persist({ batches: sampleBatches(3, { group: GROUP, firstOffset: 21, valueBytes: 3000 }) }, (error) => {
      note('first')(error);
      log.persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 24 })] }, note('second'));
    });
    log.repair([batches[7]], note('repaired'));
    scheduler.runUntil(() => order.length === 3);
    expect(order).toEqual(expect.arrayContaining(['first', 'repaired', 'second']));
    expect(log.damaged).toEqual([]);
    close();
    open();
    expect(log.findings).toEqual([]);
    expect(log.lastOffset).toBe(24);
    expect(read(8).equals(batches[7])).toBe(true);
  });

  test('the mutant that forgets its vote forgets it', () => {
    close();
    open({ mutantForgetVote: true });
    persist({ state: { term: asTerm(2), vote: asNodeId(3), commit: asOffset(0) } });
    kill();
    open();
    expect(log.state).toMatchObject({ term: 2, vote: 0 });
  });

  describe('in a log of many segments', () => {
    const many = sampleBatches(300, { group: GROUP, firstOffset: 21, valueBytes: 600 });
    let bases: number[];

    beforeEach(() => {
      persist({ batches: many });
      bases = disk
        .files()
        .filter((name) => name.endsWith('.log'))
        .map((name) => Number(name.slice(-24, -4)));
      expect(bases.length).toBeGreaterThan(4);
    });

    test('damage in a sealed segment is met by the first read, reported and repaired', () => {
      close();
      const position = disk.durableBytes(segment(bases[1]))!.indexOf(many[bases[1] - 21 + 3]) + 200;
      disk.flipBit(segment(bases[1]), position, 6);
      open();
      expect(log.findings).toEqual([]);
      const offset = bases[1] + 3;
      expect(readable(offset)).toBe(false);
      expect(corruption()).toMatchObject({ file: segment(bases[1]), fromOffset: offset, toOffset: offset + 1 });
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: offset + 1 }]);
      wait((done) => log.repair([many[offset - 21]], done));
      expect(readable(offset)).toBe(true);
      close();
      open({ validate: 'all' });
      expect(log.findings.filter((finding) => finding.kind === 'corruption')).toEqual([]);
      expect(log.lastOffset).toBe(320);
    });

    test('a read stops before damage it has not been asked for', () => {
      close();
      const offset = bases[2] + 5;
      disk.flipBit(segment(bases[2]), disk.durableBytes(segment(bases[2]))!.indexOf(many[offset - 21]) + 90, 6);
      open({ validate: 'all' });
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: offset + 1 }]);
      const bytes = read(bases[2], 1 << 20);
      const offsets: number[] = [];
      forEachBatch(bytes, (at) => offsets.push(batchFirstOffset(bytes, at)));
      expect(offsets).toEqual([0, 1, 2, 3, 4].map((i) => bases[2] + i));
    });

    test('headers are scanned past damage', () => {
      close();
      const offset = bases[2] + 5;
      disk.flipBit(segment(bases[2]), disk.durableBytes(segment(bases[2]))!.indexOf(many[offset - 21]) - 20, 6);
      open();
      const seen: number[] = [];
      log.scanHeadersSync(asOffset(bases[2]), (header) => seen.push(batchFirstOffset(header)));
      expect(seen).not.toContain(offset);
      expect(seen).toHaveLength(320 - bases[2]);
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: offset + 1 }]);
    });

    test('damage in a sealed segment above the watermark is noted by whoever comes across it', () => {
      const offset = bases[1] + 3;
      const position = disk.durableBytes(segment(bases[1]))!.indexOf(many[offset - 21]);
      // Killed before the watermark, which is saved late, has caught up.
      kill();
      disk.flipBit(segment(bases[1]), position + 20, 1);
      open();
      log.scanHeadersSync(asOffset(1), () => undefined);
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: offset + 1 }]);
    });

    test('a read of a batch whose header claims offsets beyond the end is answered', () => {
      const offset = bases[1] + 3;
      const position = disk.durableBytes(segment(bases[1]))!.indexOf(many[offset - 21]);
      // Bit 40 of the first offset.
      disk.flipBit(segment(bases[1]), position + 16 + 5, 0);
      expect(readable(offset)).toBe(false);
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: offset + 1 }]);
    });

    test('a lost file is a gap, filled by a segment of its own, in steps if need be', () => {
      close();
      disk.lose(segment(bases[2]));
      open();
      expect(log.damaged).toEqual([{ fromOffset: bases[2], toOffset: bases[3] }]);
      expect(log.lastOffset).toBe(320);
      const middle = bases[2] + 4;
      wait((done) => log.repair(many.slice(bases[2] - 21, middle - 21), done));
      expect(log.damaged).toEqual([{ fromOffset: middle, toOffset: bases[3] }]);
      wait((done) => log.repair(many.slice(middle - 21, bases[3] - 21), done));
      expect(log.damaged).toEqual([]);
      close();
      open({ validate: 'all' });
      expect(log.findings.filter((finding) => finding.kind === 'corruption')).toEqual([]);
      for (let offset = 21; offset <= 320; offset += 7) expect(read(offset).equals(many[offset - 21])).toBe(true);
    });

    test('a segment cut short is repaired up to the next one', () => {
      close();
      const offset = bases[1] + 6;
      disk.cutShort(segment(bases[1]), disk.durableBytes(segment(bases[1]))!.indexOf(many[offset - 21]) + 100);
      open();
      expect(log.damaged).toEqual([{ fromOffset: offset, toOffset: bases[2] }]);
      expect(() => wait((done) => log.repair([many[0]], done))).toThrow('no damaged range begins');
      wait((done) => log.repair(many.slice(offset - 21, bases[2] - 21), done));
      close();
      open({ validate: 'all' });
      expect(log.findings.filter((finding) => finding.kind === 'corruption')).toEqual([]);
      expect(read(offset).equals(many[offset - 21])).toBe(true);
      expect(
        verifyDataDirectory(disk, 'data').problems.filter(
          ({ severity, group }) => severity === 'damage' && group !== null,
        ),
      ).toEqual([]);
    });

    test('headers and footers of segments are made again from what surrounds them', () => {
      close();
      disk.flipBit(segment(bases[1]), 20, 1);
      disk.flipBit(segment(bases[2]), disk.durableBytes(segment(bases[2]))!.length - 20, 1);
      open();
      expect(log.findings.map((finding) => [finding.kind, finding.file])).toEqual([
        ['metadata-rebuilt', segment(bases[1])],
        ['metadata-rebuilt', segment(bases[2])],
      ]);
      expect(log.damaged).toEqual([]);
      close();
      open();
      expect(log.findings.filter((finding) => finding.kind !== 'index-rebuilt')).toEqual([]);
    });

    test('every single flipped bit in a segment is noticed by verify', () => {
      close();
      const rng = new SeededRng(11);
      const path = segment(bases[1]);
      const size = disk.durableBytes(path)!.length;
      for (let i = 0; i < 60; i++) {
        const position = randomBelow(rng, size);
        disk.flipBit(path, position, i % 8);
        const problems = verifyDataDirectory(disk, 'data').problems.filter(({ file }) => file === path);
        expect({ position, problems: problems.length > 0 }).toEqual({ position, problems: true });
        disk.flipBit(path, position, i % 8);
      }
      expect(verifyDataDirectory(disk, 'data').problems.filter(({ file }) => file === path)).toEqual([]);
    });
  });

  describe('in the hard state', () => {
    test('one bad copy is harmless and made good', () => {
      close();
      for (const position of [0, 4096, 8192, 12288]) {
        disk.flipBit(STATE, position + 21, 0);
        expect(verifyDataDirectory(disk, 'data').problems.filter(({ file }) => file === STATE)).toMatchObject([
          { severity: 'warning', position },
        ]);
        open();
        expect(log.state).toMatchObject({ term: 1, vote: 2 });
        close();
        expect(verifyDataDirectory(disk, 'data').problems.filter(({ file }) => file === STATE)).toEqual([]);
      }
    });

    test.each([0, 8192])(
      'a lost half (at %d) may have held the newest vote: the node stops and says what to do',
      (position) => {
        close();
        disk.zero(STATE, position, 8192);
        expect(open).toThrow('must not take part under its id again');
        expect(verifyDataDirectory(disk, 'data').problems).toContainEqual(
          expect.objectContaining({ severity: 'damage', file: STATE }),
        );
        expect(verifyDataDirectory(disk, 'data').ok).toBe(false);
      },
    );

    test('a lost file is not taken for a new node', () => {
      close();
      disk.lose(STATE);
      expect(open).toThrow('is missing, but there is a log');
    });
  });

  test('a bad checkpoint is passed over', () => {
    for (const offset of [5, 10]) {
      const checkpoint = { offset: asOffset(offset), term: asTerm(1), bytes: Buffer.from(`state ${offset}`) };
      wait((done) => log.saveCheckpoint(checkpoint, done));
    }
    const path = `${DIRECTORY}/00000000000000000010.checkpoint`;
    disk.flipBit(path, 40, 0);
    expect(log.checkpoints.map(({ offset }) => offset)).toEqual([5]);
    expect(verifyDataDirectory(disk, 'data').problems).toContainEqual(
      expect.objectContaining({ severity: 'damage', file: path }),
    );
  });

  test('offsetAtTime answers damage with an error', () => {
    scheduler.advance(10);
    kill();
    disk.flipBit(segment(1), frameOf(1, 8) + 100, 0);
    open();
    expect(() => wait((done) => log.offsetAtTime(asLogTime(1008), done))).toThrow('damaged');
  });

  test('the mutant that cuts at any bad checksum loses acknowledged batches', () => {
    scheduler.advance(10);
    kill();
    disk.flipBit(segment(1), frameOf(1, 8) + 100, 0);
    open({ mutantTruncateOnAnyDamage: true });
    expect(log.lastOffset).toBe(7);
  });

  describe('when the disk fails', () => {
    test.each(['EIO', 'ENOSPC'])('a failed write (%s) ends the log for good', (code) => {
      // The zeros under way are not what is to fail.
      scheduler.advance(10);
      disk.failNextWrite(code);
      const next = sampleBatch({ group: GROUP, firstOffset: 21 });
      expect(() => persist({ batches: [next] })).toThrow(code);
      expect(() => persist({ state: { term: asTerm(2), vote: asNodeId(1), commit: asOffset(0) } })).toThrow(code);
      expect(() =>
        wait((done) => log.saveCheckpoint({ offset: asOffset(1), term: asTerm(1), bytes: Buffer.alloc(1) }, done)),
      ).toThrow(code);
      expect(read(5).equals(batches[4])).toBe(true);
    });

    test('a full disk is announced before it is full', () => {
      close();
      open({ reserveBytes: 100_000 });
      expect(log.nearlyFull).toBe(false);
      disk.faults.capacityBytes = disk.usedBytes + 99_000;
      expect(log.nearlyFull).toBe(false);
      scheduler.advance(1000);
      expect(log.nearlyFull).toBe(true);
      // Zeros ahead stop where the room ends; votes and what fits are written.
      disk.faults.capacityBytes = disk.usedBytes + 3000;
      persist({ batches: sampleBatches(5, { group: GROUP, firstOffset: 21, valueBytes: 300 }) });
      persist({ state: { term: asTerm(2), vote: asNodeId(1), commit: asOffset(0) } });
      expect(log.state.term).toBe(2);
      disk.faults.capacityBytes = disk.usedBytes + 1000;
      expect(() => persist({ batches: [sampleBatch({ group: GROUP, firstOffset: 26, valueBytes: 20_000 })] })).toThrow(
        'ENOSPC',
      );
      kill();
      disk.faults.capacityBytes = Number.MAX_SAFE_INTEGER;
      open();
      expect(log.damaged).toEqual([]);
      expect(log.lastOffset).toBe(25);
    });

    test('a read error is passed on and the log stays usable', () => {
      disk.failNextRead('EIO');
      expect(() => read(3)).toThrow('EIO');
      expect(read(3).equals(batches[2])).toBe(true);
    });
  });
});
