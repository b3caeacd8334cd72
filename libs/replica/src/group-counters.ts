/** What one group has done on this node since it was opened; per batch, never per record. Read by the metrics, reset by nobody. */
export class GroupCounters {
  proposalsCommitted = 0;
  proposalsFailed = 0;
  /** Retries answered from the session table. */
  duplicates = 0;
  leaderChanges = 0;
  batchesPersisted = 0;
  bytesPersisted = 0;
  /** Writes to storage; batchesPersisted / persists is what group commit gathers. */
  persists = 0;
  barriers = 0;
  /** Read requests to Raft; barriers / readRounds is what they share. */
  readRounds = 0;
  beacons = 0;
  checkpoints = 0;
  snapshotsSent = 0;
  snapshotsInstalled = 0;
  truncations = 0;
}
