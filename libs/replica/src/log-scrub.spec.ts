import { asGroupId, asOffset, TidelineError } from '#kernel';
import { describe, expect, test } from '@jest/globals';
import { LogScrub, type ScrubPace, type ScrubbedGroup } from './log-scrub.js';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';
import { VirtualTime } from './testing/virtual-time.js';

const SMALL = { segmentBytes: 8192, preallocateFirstBytes: 0, preallocateBytes: 0, tailCacheBytes: 0 };
const PACE: ScrubPace = { delayMs: 5000, bytesAtOnce: 4096, pauseMs: 20, intervalMs: 60_000 };

const fill = (cluster: ReplicaCluster, count: number): void => {
  const leader = cluster.elect();
  const pending = Array.from({ length: count }, (_, i) => cluster.append(leader, textBatch(`${i}`.padEnd(200, '.'))));
  for (const each of pending) cluster.finish(each);
  cluster.converge();
  // The watermark of what is durable is saved with a delay.
  cluster.time.pass(3000);
};

const damageOldest = (machine: ClusterMachine): void => {
  const [path] = machine.disk.files().filter((file) => file.endsWith('.log'));
  machine.disk.flipBit(path, 3000, 3);
};

describe('logs that are looked through', () => {
  test('are repaired where they are damaged, also where nobody reads', () => {
    const cluster = new ReplicaCluster({ log: SMALL, limits: { recentBytesMax: 1000 }, scrub: PACE });
    fill(cluster, 150);
    const [victim] = cluster.others(cluster.elect());
    damageOldest(victim);
    cluster.time.until(() => victim.damage.includes('found'), PACE.intervalMs * 2);
    cluster.time.until(() => victim.damage.includes('repaired'));
    expect(cluster.readAll(victim).equals(cluster.readAll(cluster.elect()))).toBe(true);
  });

  test('are read from beginning to end, round after round, a little at a time', () => {
    const cluster = new ReplicaCluster({ nodes: 1, log: SMALL, limits: { recentBytesMax: 1000 }, scrub: PACE });
    fill(cluster, 150);
    const { scrub } = cluster.machines[0].replica!;
    cluster.time.until(() => scrub!.rounds >= 1, PACE.intervalMs * 2);
    const before = scrub!.bytes;
    const { rounds } = scrub!;
    cluster.time.until(() => scrub!.rounds > rounds, PACE.intervalMs * 2);
    expect(scrub!.bytes - before).toBe(cluster.readAll(cluster.machines[0]).length);
  });
});

describe('the scrub', () => {
  const batches = Buffer.alloc(10);
  /** A log of 100 offsets, ten a read, that does as it is told at some of them. */
  const logOf = (at: (from: number) => TidelineError | null, start = () => 1): ScrubbedGroup & { reads: number[] } => {
    const reads: number[] = [];
    return {
      reads,
      get logStartOffset() {
        return asOffset(start());
      },
      readableOffset: asOffset(100),
      read: ({ from }, done) => {
        reads.push(from);
        const error = at(from);
        if (error) done(error, null);
        else {
          const nextOffset = asOffset(Math.min(from + 10, 101));
          done(null, { batches, nextOffset, commitOffset: asOffset(100), logStartOffset: asOffset(start()) });
        }
      },
    };
  };

  const scrubOf = (groups: ReadonlyMap<number, ScrubbedGroup>): { time: VirtualTime; scrub: LogScrub } => {
    const time = new VirtualTime();
    const scrub = new LogScrub({
      scheduler: time,
      groupIds: () => [...groups.keys()].map(asGroupId),
      group: (id) => groups.get(id),
      pace: PACE,
    });
    scrub.start();
    return { time, scrub };
  };

  test('goes on behind what is repaired, and leaves a place that stays unreadable to the next round', () => {
    let failures = 3;
    const mended = logOf((from) =>
      from === 41 && failures-- > 0 ? new TidelineError('storage-damaged', 'bad') : null,
    );
    const lost = logOf((from) => (from === 41 ? new TidelineError('storage-damaged', 'bad') : null));
    const good = logOf(() => null);
    const { time, scrub } = scrubOf(
      new Map([
        [7, lost],
        [2, mended],
        [9, good],
      ]),
    );
    time.until(() => scrub.rounds === 1, 200_000);
    expect(mended.reads.at(-1)).toBe(91);
    expect(mended.reads.filter((from) => from === 41)).toHaveLength(4);
    expect(Math.max(...lost.reads)).toBe(41);
    expect(good.reads.at(-1)).toBe(91);
    scrub.stop();
  });

  test('follows a log start that moves, and a group that is closed is left', () => {
    let start = 1;
    const trimmed = logOf(
      (from) => {
        if (from === 21) start = 51;
        return from < start ? new TidelineError('offset-out-of-range', 'trimmed') : null;
      },
      () => start,
    );
    const groups = new Map<number, ScrubbedGroup>([[1, trimmed]]);
    const { time, scrub } = scrubOf(groups);
    time.until(() => trimmed.reads.includes(61), 10_000);
    expect(trimmed.reads).toEqual([1, 11, 21, 51, 61]);
    groups.delete(1);
    time.until(() => scrub.rounds === 1, 10_000);
    expect(trimmed.reads).toHaveLength(5);
    scrub.stop();
  });

  test('stopped reads no more', () => {
    const log = logOf(() => null);
    const { time, scrub } = scrubOf(new Map([[1, log]]));
    time.until(() => log.reads.length === 3, 10_000);
    scrub.stop();
    time.pass(10_000);
    expect(log.reads).toHaveLength(3);
  });
});
