export { InMemoryArchiveGaps } from './in-memory-archive-gaps.js';
export { InMemoryArchive } from './in-memory-archive.js';
export { InMemorySnapshotCatalog } from './in-memory-snapshot-catalog.js';
