import { describe, expect, test } from '@jest/globals';
import { SeededRng } from '#kernel';
import { DiskDown, SimulatedDisk, type DiskFaults } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';

const create = (seed: number, faults: Partial<DiskFaults> = {}): { disk: SimulatedDisk; scheduler: StepScheduler } => {
  const scheduler = new StepScheduler();
  const disk = new SimulatedDisk(scheduler, new SeededRng(seed), faults);
  return { disk, scheduler };
};

const reboot = (disk: SimulatedDisk): void => {
  disk.crash();
  disk.restart();
};

describe('the simulated disk', () => {
  test('keeps what was synced, whatever the crash', () => {
    for (let seed = 0; seed < 50; seed++) {
      const { disk } = create(seed);
      const file = disk.openSync('a', { create: true });
      file.writeSync(Buffer.alloc(10_000, 1), 0);
      file.syncSync();
      disk.syncDirectorySync('');
      file.writeSync(Buffer.alloc(5000, 2), 8000);
      reboot(disk);
      const bytes = disk.openSync('a', {}).readSync(20_000, 0);
      expect(bytes.subarray(0, 7680).equals(Buffer.alloc(7680, 1))).toBe(true);
      expect(bytes.subarray(7680, 8000).equals(Buffer.alloc(320, 1))).toBe(true);
      expect([1, 2]).toContain(bytes[8000]);
    }
  });

  test('tears unsynced writes at sectors, each old or new', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const { disk } = create(seed);
      const file = disk.openSync('a', { create: true, synced: true });
      file.writeSync(Buffer.alloc(2048, 1), 0);
      disk.syncDirectorySync('');
      file.write([Buffer.alloc(2048, 2)], 0, () => {
        throw new Error('it went down before');
      });
      reboot(disk);
      const bytes = disk.openSync('a', {}).readSync(2048, 0);
      const sectors = [0, 512, 1024, 1536].map((at) => bytes.subarray(at, at + 512));
      for (const sector of sectors) expect(sector.equals(Buffer.alloc(512, sector[0]))).toBe(true);
      seen.add(sectors.map((sector) => sector[0]).join(''));
    }
    expect(seen.size).toBeGreaterThan(8);
  });

  test('forgets files and renames whose folder was not synced, in order', () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const { disk } = create(seed);
      disk.openSync('a', { create: true }).syncSync();
      disk.syncDirectorySync('');
      disk.renameSync('a', 'b');
      disk.openSync('c', { create: true });
      reboot(disk);
      outcomes.add(disk.readdirSync('').join(' '));
    }
    expect([...outcomes].sort()).toEqual(['a', 'b', 'b c']);
  });

  test('kills handles, callbacks and locks at a crash', () => {
    const { disk, scheduler } = create(1, { latencyMsMin: 5, latencyMsMax: 5 });
    disk.mkdirSync('d');
    const file = disk.openSync('d/a', { create: true });
    disk.lockSync('d');
    let called = false;
    file.sync(() => {
      called = true;
    });
    disk.crash();
    scheduler.advance(100);
    expect(called).toBe(false);
    expect(() => disk.openSync('d/a', {})).toThrow(DiskDown);
    disk.restart();
    expect(() => file.readSync(1, 0)).toThrow(DiskDown);
    disk.lockSync('d').release();
  });

  test('loses nothing written when only the process stops', () => {
    const { disk } = create(1);
    disk.openSync('a', { create: true }).writeSync(Buffer.from('written'), 0);
    disk.stop();
    disk.restart();
    expect(disk.openSync('a', {}).readSync(7, 0).toString()).toBe('written');
    expect(disk.durableBytes('a')).toBe(null);
  });

  test('fails when it is told to, stalls, and runs full in the middle of a write', () => {
    const { disk, scheduler } = create(1, { capacityBytes: 1000, stallRate: 1, stallMs: 500 });
    const file = disk.openSync('a', { create: true });
    const results: (string | null)[] = [];
    file.write([Buffer.alloc(900)], 0, (error) => results.push(error?.message ?? null));
    scheduler.advance(499);
    expect(results).toEqual([]);
    scheduler.advance(1);
    expect(results).toEqual([null]);
    file.write([Buffer.alloc(200)], 900, (error) => results.push((error as NodeJS.ErrnoException).code ?? null));
    scheduler.advance(500);
    expect(results).toEqual([null, 'ENOSPC']);
    expect(file.sizeSync()).toBe(1000);
    disk.failNextSync('EIO');
    expect(() => file.syncSync()).toThrow('EIO');
  });

  test('gives back stale pages, misplaced bytes, zeros and short files', () => {
    const { disk } = create(1);
    const file = disk.openSync('a', { create: true });
    for (const fill of [1, 2]) {
      file.writeSync(Buffer.alloc(8192, fill), 0);
      file.syncSync();
    }
    expect(disk.restoreStalePage('a', 1)).toBe(true);
    disk.misdirect({ path: 'a', position: 4096 }, { path: 'a', position: 100 }, 10);
    disk.zero('a', 200, 1);
    disk.flipBit('a', 300, 0);
    const bytes = file.readSync(8192, 0);
    expect([bytes[0], bytes[105], bytes[200], bytes[300], bytes[4096]]).toEqual([2, 1, 0, 3, 1]);
    disk.cutShort('a', 5);
    expect(file.readSync(100, 0)).toHaveLength(5);
    disk.lose('a');
    expect(disk.existsSync('a')).toBe(false);
  });

  test('is the same disk for the same seed', () => {
    const run = (): string => {
      const { disk, scheduler } = create(42, { latencyMsMin: 1, latencyMsMax: 9, writeErrorRate: 0.3 });
      const file = disk.openSync('a', { create: true });
      const trace: string[] = [];
      for (let i = 0; i < 20; i++) {
        file.write([Buffer.alloc(700, i)], i * 700, (error) =>
          trace.push(`${scheduler.monotonicMs()} ${error?.message}`),
        );
        scheduler.runUntil(() => trace.length > i);
      }
      disk.syncDirectorySync('');
      disk.crash();
      return trace.join() + disk.durableBytes('a')!.toString('base64');
    };
    expect(run()).toBe(run());
  });
});
