import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { SeededRng, systemClock, systemScheduler } from '#kernel';
import { nodeFileSystem } from './node-file-system.js';
import { partitionLogConformance, type ConformanceDisk } from './testing/partition-log.conformance.js';
import { MemoryFileSystem } from './testing/memory-file-system.js';
import { SimulatedDisk } from './testing/simulated-disk.js';
import { StepScheduler } from './testing/step-scheduler.js';

partitionLogConformance('the real disk', (): ConformanceDisk => {
  const directory = mkdtempSync(`${tmpdir()}/tideline-log-`);
  return {
    fs: nodeFileSystem,
    directory,
    scheduler: systemScheduler,
    clock: systemClock,
    until: async (condition) => {
      while (!condition()) await new Promise((resolve) => setImmediate(resolve));
    },
    dispose: () => rmSync(directory, { recursive: true }),
  };
});

const stepped =
  (scheduler: StepScheduler): ConformanceDisk['until'] =>
  (condition) => {
    if (!scheduler.runUntil(condition)) throw new Error('nothing is left to happen');
    return Promise.resolve();
  };

partitionLogConformance('memory', (): ConformanceDisk => {
  const scheduler = new StepScheduler();
  const fs = new MemoryFileSystem(scheduler);
  fs.mkdirSync('data');
  return { fs, directory: 'data', scheduler, clock: scheduler, until: stepped(scheduler), dispose: () => undefined };
});

for (const directWrites of ['done', 'refused-at-open', 'refused-at-write'] as const) {
  partitionLogConformance(`a simulated disk, direct writes ${directWrites}`, (): ConformanceDisk => {
    const scheduler = new StepScheduler();
    const fs = new SimulatedDisk(scheduler, new SeededRng(1), { latencyMsMin: 0.1, latencyMsMax: 3, directWrites });
    fs.mkdirSync('data');
    return { fs, directory: 'data', scheduler, clock: scheduler, until: stepped(scheduler), dispose: () => undefined };
  });
}
