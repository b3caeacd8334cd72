import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SeededRng, asGroupId, asLogTime, asNodeId, asOffset, asTerm, randomBelow, randomChance } from '#kernel';
import { batchLastOffset } from '#wire';
import type { PartitionLog, PersistRequest } from './partition-log.js';
import { openPartitionLog } from './segmented-log.js';
import { sampleBatches } from './testing/sample-batch.js';
import { DiskDown, SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';
import { verifyDataDirectory } from './verify.js';

const GROUP = asGroupId(3);
const DIRECTORY = 'data/group-0000000003';

/** What the log must be: the model of one, changed by the same requests. */
interface Model {
  base: number;
  batches: Uint8Array[];
  term: number;
  vote: number;
}

const lastOf = (model: Model): number =>
  model.batches.length > 0 ? batchLastOffset(model.batches.at(-1)!) : model.base;

/** The states a crash within the request may leave, in the order in which they come about; the last is the request done. */
const outcomes = (model: Model, request: PersistRequest): Model[] => {
  const states: Model[] = [model];
  let now = model;
  const goOn = (change: Partial<Model>): void => {
    now = { ...now, ...change };
    states.push(now);
  };
  const votes = request.state ? { term: request.state.term, vote: request.state.vote } : {};
  if (request.install) {
    const { offset, keepSuffix } = request.install;
    const batches =
      keepSuffix && offset <= lastOf(now) ? now.batches.filter((batch) => batchLastOffset(batch) > offset) : [];
    goOn({ base: offset, batches, ...votes });
  }
  if (request.state) goOn(votes);
  if (request.truncateAfter !== undefined) {
    const { truncateAfter } = request;
    goOn({ batches: now.batches.filter((batch) => batchLastOffset(batch) <= truncateAfter), ...votes });
  }
  for (const batch of request.batches) goOn({ batches: [...now.batches, batch] });
  return states;
};

const readBack = (log: PartitionLog, scheduler: StepScheduler): Model => {
  const batches: Buffer[] = [];
  let next = log.baseOffset + 1;
  while (next <= log.lastOffset) {
    let answer: Buffer | null = null;
    log.read({ from: asOffset(next), to: asOffset(next), bytesMax: 1 }, (error, bytes) => {
      if (error) throw error;
      answer = bytes;
    });
    scheduler.runUntil(() => answer !== null);
    batches.push(answer!);
    next = batchLastOffset(answer!) + 1;
  }
  return { base: log.baseOffset, batches, term: log.state.term, vote: log.state.vote };
};

const same = (a: Model, b: Model): boolean =>
  a.base === b.base &&
  a.term === b.term &&
  a.vote === b.vote &&
  a.batches.length === b.batches.length &&
  a.batches.every((batch, i) => Buffer.compare(batch, b.batches[i]) === 0);

const describeModel = (model: Model): string =>
  `base ${model.base}, ${model.batches.length} batches to ${lastOf(model)}, term ${model.term}, vote ${model.vote}`;

const randomRequest = (rng: SeededRng, model: Model): PersistRequest => {
  const last = lastOf(model);
  let { term } = model;
  let state: PersistRequest['state'];
  let truncateAfter: PersistRequest['truncateAfter'];
  let install: PersistRequest['install'];
  let end = last;
  if (randomChance(rng, 0.2)) {
    term += randomBelow(rng, 3);
    state = { term: asTerm(term), vote: asNodeId(randomBelow(rng, 3)), commit: asOffset(0) };
  }
  const dice = randomBelow(rng, 10);
  if (dice === 0 && model.batches.length > 0) {
    const keep = randomBelow(rng, model.batches.length + 1);
    end = keep > 0 ? batchLastOffset(model.batches[keep - 1]) : model.base;
    truncateAfter = asOffset(end);
  } else if (dice === 1) {
    const suffix = randomChance(rng, 0.5) && model.batches.length > 0;
    const offset = suffix
      ? batchLastOffset(model.batches[randomBelow(rng, model.batches.length)])
      : last + 1 + randomBelow(rng, 50);
    install = {
      offset: asOffset(offset),
      term: asTerm(term),
      logTime: asLogTime(1),
      keepSuffix: suffix,
      state: Buffer.from('state'),
    };
    if (!suffix) end = offset;
  }
  const batches = sampleBatches(randomBelow(rng, 5), {
    group: GROUP,
    firstOffset: end + 1,
    term,
    logTime: 2_000_000,
    records: 1 + randomBelow(rng, 3),
    valueBytes: [10, 200, 700, 3000][randomBelow(rng, 4)],
    salt: randomBelow(rng, 1 << 30),
  });
  return {
    batches,
    ...(state && { state }),
    ...(truncateAfter !== undefined && { truncateAfter }),
    ...(install && { install }),
  };
};

const createDisk = (scheduler: StepScheduler, rng: SeededRng): SimulatedDisk => {
  const disk = new SimulatedDisk(scheduler, rng, {
    latencyMsMin: 0.1,
    latencyMsMax: 2,
    tearBytes: randomChance(rng, 0.7) ? 512 : 4096,
    directWrites: randomChance(rng, 0.7) ? 'done' : randomChance(rng, 0.5) ? 'refused-at-open' : 'refused-at-write',
  });
  disk.mkdirSync('data');
  return disk;
};

const open = (disk: SimulatedDisk, scheduler: StepScheduler): PartitionLog =>
  openPartitionLog({
    fs: disk,
    directory: DIRECTORY,
    group: GROUP,
    scheduler,
    clock: scheduler,
    options: {
      segmentBytes: 12_000,
      preallocateFirstBytes: 4096,
      preallocateBytes: 8192,
      indexIntervalBytes: 1024,
      tailCacheBytes: 0,
      watermarkDelayMs: 5,
    },
  });

/** Opens, and is crashed while opening now and then. */
const recover = (disk: SimulatedDisk, scheduler: StepScheduler, rng: SeededRng): PartitionLog => {
  for (;;) {
    disk.restart();
    if (randomChance(rng, 0.3)) disk.crashAtOperation = disk.operations + 1 + randomBelow(rng, 6);
    try {
      const log = open(disk, scheduler);
      disk.crashAtOperation = null;
      return log;
    } catch (error) {
      if (!(error instanceof DiskDown)) throw error;
      scheduler.clear();
    }
  }
};

/** One life after another; returns how many requests were cut short. */
const runLives = (seed: number, lives: number): number => {
  const rng = new SeededRng(seed);
  const scheduler = new StepScheduler();
  const disk = createDisk(scheduler, rng.fork());
  let model: Model = { base: 0, batches: [], term: 0, vote: 0 };
  let log = open(disk, scheduler);
  let cutShort = 0;
  for (let life = 0; life < lives; life++) {
    disk.crashAtOperation = disk.operations + 1 + randomBelow(rng, 60);
    let pending: PersistRequest | null = null;
    while (!disk.isDown) {
      pending = randomRequest(rng, model);
      let answered = false;
      try {
        log.persist(pending, (error) => {
          answered = error === null;
        });
        scheduler.runUntil(() => answered || disk.isDown);
        // The watermark and the zeros ahead have a chance to be written, too.
        if (answered && !disk.isDown && randomChance(rng, 0.3)) scheduler.advance(randomBelow(rng, 12));
      } catch (error) {
        if (!(error instanceof DiskDown)) throw error;
      }
      if (!answered) break;
      model = outcomes(model, pending).at(-1)!;
      pending = null;
    }
    if (!disk.isDown) disk.crash();
    scheduler.clear();
    const isReport = randomChance(rng, 0.2);
    if (isReport) {
      disk.restart();
      const report = verifyDataDirectory(disk, 'data');
      expect(report.problems.filter((problem) => problem.severity === 'damage' && problem.group === GROUP)).toEqual([]);
      disk.crash();
    }
    log = recover(disk, scheduler, rng);
    expect(log.damaged).toEqual([]);
    expect(log.findings.filter((finding) => finding.kind === 'corruption')).toEqual([]);
    const found = readBack(log, scheduler);
    const allowed = pending ? outcomes(model, pending) : [model];
    const match = allowed.find((state) => same(state, found));
    if (!match) {
      throw new Error(
        `seed ${seed}, life ${life}: found ${describeModel(found)}; allowed: ${allowed.map(describeModel).join(' | ')}`,
      );
    }
    if (pending) cutShort++;
    model = match;
  }
  return cutShort;
};

describe('after a power failure at any step', () => {
  test('everything acknowledged is there and nothing that was not asked for', () => {
    let cutShort = 0;
    for (let seed = 1; seed <= 150; seed++) cutShort += runLives(seed, 8);
    // The test would say nothing if the crashes missed the writes.
    expect(cutShort).toBeGreaterThan(500);
  });

  test('whatever the seed', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        runLives(seed, 3);
      }),
      { numRuns: 100 },
    );
  });

  test('a disk that says "durable" too early is found out', () => {
    expect(() => {
      for (let seed = 1; seed < 60; seed++) runMutant(seed, (disk) => Object.assign(disk.mutants, { lazySync: true }));
    }).toThrow();
  });

  test('folders that are not synced are found out', () => {
    expect(() => {
      for (let seed = 1; seed < 60; seed++)
        runMutant(seed, (disk) => Object.assign(disk.mutants, { noDirectorySync: true }));
    }).toThrow();
  });
});

const runMutant = (seed: number, spoil: (disk: SimulatedDisk) => void): void => {
  const rng = new SeededRng(seed);
  const scheduler = new StepScheduler();
  const disk = createDisk(scheduler, rng.fork());
  spoil(disk);
  const log = open(disk, scheduler);
  const batches = sampleBatches(20, { group: GROUP, firstOffset: 1, valueBytes: 3000 });
  let done = false;
  log.persist({ batches }, (error) => {
    done = error === null;
  });
  scheduler.runUntil(() => done);
  disk.crash();
  scheduler.clear();
  disk.restart();
  const again = open(disk, scheduler);
  expect(again.lastOffset).toBe(20);
  expect(again.damaged).toEqual([]);
};
