export { HeldProcess } from './held-process.js';
export { MemoryFileSystem } from './memory-file-system.js';
export { DiskDown, NO_FAULTS, SimulatedDisk, type DiskFaults, type DiskMutants } from './simulated-disk.js';
export { StepScheduler } from './step-scheduler.js';
export { sampleBatch, sampleBatches, type SampleBatch } from './sample-batch.js';
