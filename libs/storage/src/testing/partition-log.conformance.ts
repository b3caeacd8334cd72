import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { asGroupId, asLogTime, asNodeId, asOffset, asTerm, isTidelineError, type Clock, type Scheduler } from '#kernel';
import {
  ControlKind,
  batchControlKind,
  batchFirstOffset,
  batchLastOffset,
  encodeControlBatch,
  forEachBatch,
  stampBatch,
} from '#wire';
import type { FileSystem } from '../file-system.js';
import type { PartitionLogOptions } from '../partition-log-options.js';
import type { Checkpoint, DurableState, PartitionLog, PersistRequest } from '../partition-log.js';
import { openPartitionLog } from '../segmented-log.js';
import { sampleBatch, sampleBatches } from './sample-batch.js';

/** A disk to run the suite on. */
export interface ConformanceDisk {
  readonly fs: FileSystem;
  /** Parent of the partition's folder; exists. */
  readonly directory: string;
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  /** Lets time pass until the condition holds. */
  until(condition: () => boolean): Promise<void>;
  dispose(): void;
}

const GROUP = asGroupId(7);

/** The contract of PartitionLog, over any file system. */
export const partitionLogConformance = (name: string, createDisk: () => ConformanceDisk): void => {
  describe(`a partition log on ${name}`, () => {
    let disk: ConformanceDisk;
    let log: PartitionLog;

    const open = (options: Partial<PartitionLogOptions> = {}): PartitionLog => {
      log = openPartitionLog({
        fs: disk.fs,
        directory: `${disk.directory}/log`,
        group: GROUP,
        clock: disk.clock,
        scheduler: disk.scheduler,
        options: {
          segmentBytes: 16 * 1024,
          preallocateFirstBytes: 4096,
          preallocateBytes: 8192,
          indexIntervalBytes: 512,
          ...options,
        },
      });
      return log;
    };
    const call = async <T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> => {
      let result: { error: Error | null; value?: T } | null = null;
      start((error, value) => {
        expect(result).toBeNull();
        result = { error, ...(value !== undefined && { value }) };
      });
      await disk.until(() => result !== null);
      const { error, value } = result!;
      if (error) throw error;
      return value as T;
    };
    const persist = (request: Partial<PersistRequest>): Promise<void> =>
      call((done) => log.persist({ batches: [], ...request }, done));
    const append = (...batches: Uint8Array[]): Promise<void> => persist({ batches });
    const read = (from: number, to = Number.MAX_SAFE_INTEGER, bytesMax = 1 << 20): Promise<Buffer> =>
      call<Buffer>((done) => log.read({ from: asOffset(from), to: asOffset(to), bytesMax }, done));
    const offsetsOf = (bytes: Buffer): number[] => {
      const offsets: number[] = [];
      forEachBatch(bytes, (at) => offsets.push(batchFirstOffset(bytes, at)));
      return offsets;
    };
    /** Follows the log to its end. */
    const readAll = async (from = log.baseOffset + 1): Promise<Buffer> => {
      const pieces: Buffer[] = [];
      let next = from;
      for (;;) {
        const piece = await read(next);
        if (piece.length === 0) return Buffer.concat(pieces);
        pieces.push(Buffer.from(piece));
        forEachBatch(piece, (at) => {
          next = batchLastOffset(piece, at) + 1;
        });
      }
    };
    /** Jest takes a second to compare what this compares in no time. */
    const expectSame = (actual: Buffer, expected: Buffer): void => {
      expect(offsetsOf(actual)).toEqual(offsetsOf(expected));
      expect(actual.equals(expected)).toBe(true);
    };
    const close = (): Promise<void> => call((done) => log.close(() => done(null)));
    const reopen = async (options: Partial<PartitionLogOptions> = {}): Promise<PartitionLog> => {
      await close();
      return open(options);
    };
    const state = (term: number, vote: number, commit = 0): DurableState => ({
      term: asTerm(term),
      vote: asNodeId(vote),
      commit: asOffset(commit),
    });
    const checkpointAt = (offset: number, text: string): Checkpoint => ({
      offset: asOffset(offset),
      term: asTerm(1),
      bytes: Buffer.from(text),
    });

    beforeEach(() => {
      disk = createDisk();
      open();
    });

    afterEach(async () => {
      await close().catch(() => undefined);
      disk.dispose();
    });

    test('is empty when it is new', async () => {
      expect(log).toMatchObject({
        baseOffset: 0,
        baseTerm: 0,
        lastOffset: 0,
        lastTerm: 0,
        lastLogTime: 0,
        segmentCount: 0,
      });
      expect(log.state).toEqual(state(0, 0));
      expect(log.termStarts).toEqual([]);
      expect(log.findings).toEqual([]);
      expect(log.damaged).toEqual([]);
      expect(await read(1)).toHaveLength(0);
      expect(log.checkpoints).toEqual([]);
    });

    test('gives back the batches it was given, bit for bit, also after it was opened again', async () => {
      const batches = sampleBatches(20, { group: GROUP, firstOffset: 1, records: 3, valueBytes: 100 });
      for (const batch of batches) await append(batch);
      expect(log).toMatchObject({ lastOffset: 60, lastTerm: 1 });
      expectSame(await readAll(), Buffer.concat(batches));
      await reopen();
      expect(log).toMatchObject({ lastOffset: 60, lastTerm: 1, lastLogTime: 1058 });
      expect(log.findings).toEqual([]);
      expectSame(await readAll(), Buffer.concat(batches));
    });

    test('writes many batches as one unit and across segments', async () => {
      const batches = sampleBatches(400, { group: GROUP, firstOffset: 1, valueBytes: 300 });
      await append(...batches);
      expect(log.segmentCount).toBeGreaterThan(5);
      expect(log.lastOffset).toBe(400);
      expectSame(await readAll(), Buffer.concat(batches));
      await reopen({ tailCacheBytes: 0 });
      expect(log.findings).toEqual([]);
      expectSame(await readAll(), Buffer.concat(batches));
      await append(sampleBatch({ group: GROUP, firstOffset: 401 }));
      expect(offsetsOf(await read(400))).toEqual(expect.arrayContaining([400]));
    });

    test('takes a batch larger than a segment', async () => {
      const small = sampleBatch({ group: GROUP, firstOffset: 1 });
      const large = sampleBatch({ group: GROUP, firstOffset: 2, valueBytes: 100_000 });
      const after = sampleBatch({ group: GROUP, firstOffset: 3 });
      await append(small, large, after);
      await reopen();
      expectSame(await readAll(), Buffer.concat([small, large, after]));
      expectSame(await read(2, 2, 1), large);
    });

    test.each([0, 1 << 20])(
      'reads from the batch that holds the offset, up to the bounds asked (tail cache %d)',
      async (tailCacheBytes) => {
        await reopen({ tailCacheBytes });
        await append(...sampleBatches(10, { group: GROUP, firstOffset: 1, records: 5 }));
        const one = (await read(23, 23)).length;
        expect(offsetsOf(await read(23, 23))).toEqual([21]);
        expect(offsetsOf(await read(23, 31))).toEqual([21, 26, 31]);
        expect(offsetsOf(await read(1, 50, 1))).toEqual([1]);
        expect(offsetsOf(await read(6, 50, one * 2 + 10))).toEqual([6, 11]);
        expect(await read(51)).toHaveLength(0);
        expect(await read(5, 3)).toHaveLength(0);
        await expect(read(0)).rejects.toMatchObject({ code: 'offset-out-of-range' });
      },
    );

    test('keeps term and vote, and a commit offset that is never above what is durable', async () => {
      await persist({ state: state(3, 2) });
      expect(log.state).toEqual(state(3, 2));
      await reopen();
      expect(log.state).toEqual(state(3, 2));
      await persist({ state: state(3, 2, 5), batches: sampleBatches(2, { group: GROUP, firstOffset: 1, term: 3 }) });
      await reopen();
      expect(log.state).toEqual(state(3, 2, 2));
      await persist({ state: state(4, 0, 2) });
      await persist({ state: state(4, 1, 2) });
      await reopen();
      expect(log.state).toEqual(state(4, 1, 2));
    });

    test('knows where terms begin', async () => {
      await append(...sampleBatches(3, { group: GROUP, firstOffset: 1, term: 1, valueBytes: 6000 }));
      await append(...sampleBatches(4, { group: GROUP, firstOffset: 4, term: 2, valueBytes: 6000 }));
      await append(sampleBatch({ group: GROUP, firstOffset: 8, term: 5 }));
      const starts = [
        { term: 1, firstOffset: 1 },
        { term: 2, firstOffset: 4 },
        { term: 5, firstOffset: 8 },
      ];
      expect(log.termStarts).toEqual(starts);
      await reopen();
      expect(log.termStarts).toEqual(starts);
      expect(log.lastTerm).toBe(5);
    });

    test('cuts its end and goes on from there, and what was cut never comes back', async () => {
      const kept = sampleBatches(5, { group: GROUP, firstOffset: 1, term: 1 });
      await append(...kept, ...sampleBatches(200, { group: GROUP, firstOffset: 6, term: 2, valueBytes: 300 }));
      const fresh = sampleBatches(3, { group: GROUP, firstOffset: 6, term: 3, salt: 1 });
      await persist({ state: state(3, 1), truncateAfter: asOffset(5), batches: fresh });
      const check = async (): Promise<void> => {
        expect(log).toMatchObject({ lastOffset: 8, lastTerm: 3, segmentCount: 1 });
        expect(log.termStarts).toEqual([
          { term: 1, firstOffset: 1 },
          { term: 3, firstOffset: 6 },
        ]);
        expectSame(await readAll(), Buffer.concat([...kept, ...fresh]));
      };
      await check();
      await reopen();
      expect(log.findings).toEqual([]);
      await check();
      await append(...sampleBatches(50, { group: GROUP, firstOffset: 9, term: 3, valueBytes: 1000 }));
      await reopen();
      expect(log.findings).toEqual([]);
      expect(log.lastOffset).toBe(58);
    });

    test('cuts everything', async () => {
      await append(...sampleBatches(60, { group: GROUP, firstOffset: 1, valueBytes: 600 }));
      await persist({ truncateAfter: asOffset(0) });
      expect(log).toMatchObject({ lastOffset: 0, lastTerm: 0, termStarts: [] });
      await reopen();
      expect(log).toMatchObject({ lastOffset: 0, lastTerm: 0, termStarts: [], findings: [] });
      const fresh = sampleBatches(2, { group: GROUP, firstOffset: 1, term: 2 });
      await append(...fresh);
      await reopen();
      expectSame(await readAll(), Buffer.concat(fresh));
    });

    test('cuts back into a sealed segment and at the border of one', async () => {
      const batches = sampleBatches(60, { group: GROUP, firstOffset: 1, valueBytes: 1000 });
      await append(...batches);
      const border = 15;
      for (const after of [40, border, 14, 3]) {
        await persist({ truncateAfter: asOffset(after) });
        expectSame(await readAll(), Buffer.concat(batches.slice(0, after)));
        await reopen();
        expect(log).toMatchObject({ lastOffset: after, findings: [] });
        expectSame(await readAll(), Buffer.concat(batches.slice(0, after)));
      }
    });

    test('lets go of whole segments from the start', async () => {
      const batches = sampleBatches(60, { group: GROUP, firstOffset: 1, valueBytes: 1000 });
      await append(...batches);
      const { segmentCount, byteLength } = log;
      log.trimBefore(asOffset(40));
      expect(log.segmentCount).toBeLessThan(segmentCount);
      expect(log.byteLength).toBeLessThan(byteLength);
      const base = log.baseOffset;
      expect(base).toBeGreaterThan(20);
      expect(base).toBeLessThan(40);
      expect(log.baseTerm).toBe(1);
      expect(log.termStarts).toEqual([{ term: 1, firstOffset: base + 1 }]);
      await expect(read(base)).rejects.toMatchObject({ code: 'offset-out-of-range' });
      expectSame(await readAll(), Buffer.concat(batches.slice(base)));
      await reopen();
      expect(log).toMatchObject({ baseOffset: base, baseTerm: 1, lastOffset: 60, findings: [] });
      expect(log.termStarts).toEqual([{ term: 1, firstOffset: base + 1 }]);
      expectSame(await readAll(), Buffer.concat(batches.slice(base)));
      log.trimBefore(asOffset(1000));
      expect(log.segmentCount).toBe(1);
      expect(log.lastOffset).toBe(60);
    });

    test('installs a snapshot in place of the whole log', async () => {
      await append(...sampleBatches(40, { group: GROUP, firstOffset: 1, valueBytes: 1000 }));
      const next = sampleBatches(2, { group: GROUP, firstOffset: 101, term: 4 });
      await persist({
        install: {
          offset: asOffset(100),
          term: asTerm(3),
          logTime: asLogTime(9000),
          keepSuffix: false,
          state: Buffer.from('sessions'),
        },
        state: state(4, 0, 100),
        batches: next,
      });
      const check = async (): Promise<void> => {
        expect(log).toMatchObject({ baseOffset: 100, baseTerm: 3, lastOffset: 102, lastTerm: 4, findings: [] });
        expect(log.state).toEqual(state(4, 0, 100));
        expect(log.termStarts).toEqual([{ term: 4, firstOffset: 101 }]);
        expect(log.checkpoints).toEqual([{ offset: 100, term: 3, bytes: Buffer.from('sessions') }]);
        expectSame(await readAll(), Buffer.concat(next));
        await expect(read(40)).rejects.toMatchObject({ code: 'offset-out-of-range' });
      };
      await check();
      await reopen();
      await check();
    });

    test('after an install without entries it ends where the snapshot does', async () => {
      await append(...sampleBatches(3, { group: GROUP, firstOffset: 1 }));
      await persist({
        install: {
          offset: asOffset(50),
          term: asTerm(2),
          logTime: asLogTime(7000),
          keepSuffix: false,
          state: Buffer.from('s'),
        },
      });
      await reopen();
      expect(log).toMatchObject({
        baseOffset: 50,
        lastOffset: 50,
        lastTerm: 2,
        lastLogTime: 7000,
        termStarts: [],
        findings: [],
      });
    });

    test('an install that is a prefix of the log keeps what follows', async () => {
      const batches = sampleBatches(60, { group: GROUP, firstOffset: 1, valueBytes: 1000 });
      await append(...batches);
      await persist({
        install: {
          offset: asOffset(37),
          term: asTerm(1),
          logTime: asLogTime(1037),
          keepSuffix: true,
          state: Buffer.from('s'),
        },
      });
      const check = async (): Promise<void> => {
        expect(log).toMatchObject({ baseOffset: 37, baseTerm: 1, lastOffset: 60, findings: [] });
        expect(log.termStarts).toEqual([{ term: 1, firstOffset: 38 }]);
        expectSame(await readAll(), Buffer.concat(batches.slice(37)));
      };
      await check();
      await reopen();
      await check();
    });

    test('finds the first batch at or after a time', async () => {
      const batches = Array.from({ length: 60 }, (_, i) =>
        sampleBatch({
          group: GROUP,
          firstOffset: 1 + i * 2,
          records: 2,
          logTime: 1000 + Math.floor(i / 3) * 10,
          valueBytes: 400,
        }),
      );
      await append(...batches);
      const offsetAt = (time: number): Promise<number> =>
        call<number>((done) => log.offsetAtTime(asLogTime(time), done));
      for (const round of [0, 1]) {
        expect(await offsetAt(0)).toBe(1);
        expect(await offsetAt(1000)).toBe(1);
        expect(await offsetAt(1001)).toBe(7);
        expect(await offsetAt(1010)).toBe(7);
        expect(await offsetAt(1105)).toBe(67);
        expect(await offsetAt(1190)).toBe(115);
        expect(await offsetAt(1191)).toBe(121);
        if (round === 0) await reopen({ tailCacheBytes: 0 });
      }
    });

    test('scans headers in order, with the payload of control batches', async () => {
      const control = encodeControlBatch(ControlKind.Configuration, Buffer.from('voters'), 5);
      stampBatch(control, { firstOffset: asOffset(61), term: asTerm(2), logTime: asLogTime(5000), group: GROUP });
      await append(...sampleBatches(20, { group: GROUP, firstOffset: 1, records: 3, valueBytes: 900 }), control);
      await append(sampleBatch({ group: GROUP, firstOffset: 62, term: 2, valueBytes: 50_000 }));
      for (const round of [0, 1]) {
        const seen: number[] = [];
        const controls: string[] = [];
        log.scanHeadersSync(asOffset(20), (header, controlPayload) => {
          seen.push(batchFirstOffset(header));
          if (controlPayload) controls.push(`${batchControlKind(header)} ${controlPayload.toString()}`);
          else expect(header).toHaveLength(72);
        });
        expect(seen).toEqual([...Array.from({ length: 14 }, (_, i) => 19 + i * 3), 61, 62]);
        expect(controls).toEqual(['2 voters']);
        if (round === 0) await reopen();
      }
      log.scanHeadersSync(asOffset(63), () => {
        throw new Error('there is nothing');
      });
    });

    test('keeps the last two checkpoints, newest first, and offers none beyond its end', async () => {
      await append(...sampleBatches(30, { group: GROUP, firstOffset: 1 }));
      for (const offset of [5, 10, 20]) {
        await call((done) => log.saveCheckpoint(checkpointAt(offset, `state ${offset}`), done));
      }
      const two = [checkpointAt(20, 'state 20'), checkpointAt(10, 'state 10')];
      expect(log.checkpoints).toEqual(two);
      await reopen();
      expect(log.checkpoints).toEqual(two);
      await persist({ truncateAfter: asOffset(15) });
      expect(log.checkpoints).toEqual([two[1]]);
    });

    test('reads while it writes, and reads what is not yet durable from memory', async () => {
      await reopen({ tailCacheBytes: 0 });
      await append(...sampleBatches(10, { group: GROUP, firstOffset: 1 }));
      const more = sampleBatches(10, { group: GROUP, firstOffset: 11 });
      const writing = append(...more);
      expect(log.lastOffset).toBe(20);
      const [early, late] = await Promise.all([read(1, 10), read(11), writing]);
      expect(offsetsOf(early)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      expect(late).toEqual(Buffer.concat(more));
    });

    test('a read that is under way while the log is cut gives what was there or what is there now', async () => {
      await reopen({ tailCacheBytes: 0 });
      await append(...sampleBatches(30, { group: GROUP, firstOffset: 1, valueBytes: 300 }));
      const reading = read(20);
      const cutting = persist({ truncateAfter: asOffset(10) });
      const bytes = await reading;
      await cutting;
      expect([0, 20]).toContain(offsetsOf(bytes)[0] ?? 0);
      expect(log.damaged).toEqual([]);
    });

    test('makes missing and bad indexes again', async () => {
      const batches = sampleBatches(60, { group: GROUP, firstOffset: 1, valueBytes: 1000 });
      await append(...batches);
      await close();
      const directory = `${disk.directory}/log`;
      const indexes = disk.fs.readdirSync(directory).filter((name) => name.endsWith('index'));
      expect(indexes.length).toBeGreaterThan(3);
      disk.fs.unlinkSync(`${directory}/${indexes[0]}`);
      const bad = disk.fs.openSync(`${directory}/${indexes[2]}`, {});
      bad.writeSync(Buffer.from('nonsense'), 40);
      bad.closeSync();
      open({ tailCacheBytes: 0 });
      expect(log.findings.map((finding) => finding.kind)).toEqual(['index-rebuilt']);
      expectSame(await readAll(), Buffer.concat(batches));
      expect(log.findings.map((finding) => finding.kind)).toEqual(['index-rebuilt', 'index-rebuilt']);
      await reopen({ tailCacheBytes: 0 });
      expectSame(await readAll(), Buffer.concat(batches));
      expect(log.findings).toEqual([]);
    });

    test('has room on the disk, or says that it has not', () => {
      expect(log.nearlyFull).toBe(false);
    });

    test('refuses what breaks the contract and goes on', async () => {
      await append(sampleBatch({ group: GROUP, firstOffset: 1, records: 4 }));
      const ahead = sampleBatch({ group: GROUP, firstOffset: 6 });
      expect(() => log.persist({ batches: [ahead] }, () => undefined)).toThrow('continue the log');
      const foreign = sampleBatch({ group: asGroupId(8), firstOffset: 1 });
      expect(() => log.persist({ batches: [foreign] }, () => undefined)).toThrow('of this group');
      await append(sampleBatch({ group: GROUP, firstOffset: 5 }));
      expect(log.lastOffset).toBe(5);
    });

    test('an error carries the code that callers match', async () => {
      const error = await read(0).catch((failure: unknown) => failure);
      expect(isTidelineError(error, 'offset-out-of-range')).toBe(true);
    });
  });
};
