import { TidelineError, asOffset, type LogTime, type NodeId, type Offset, type Term } from '#kernel';
import type { Configuration } from '#raft';
import {
  batchControlKind,
  batchControlPayload,
  batchFirstOffset,
  batchIsControl,
  batchLastOffset,
  forEachBatch,
} from '#wire';
import type { Checkpoint, PartitionLog } from '#storage';
import { decodeCheckpoint } from './checkpoint-v1.js';
import { LogState } from './log-state.js';
import type { SessionLimits } from './session-table.js';

/** Bytes read at a time while a base moves forward. */
const READ_BYTES = 1024 * 1024;

/** The state that stands for the trimmed part of a log: at or above the log's base, below everything that must be kept. */
export interface LogBase {
  readonly offset: Offset;
  readonly term: Term;
  readonly logTime: LogTime;
  readonly configuration: Configuration;
  /** A LogState, encoded. */
  readonly bytes: Buffer;
}

export const baseOf = (state: LogState): LogBase => ({
  offset: state.lastOffset,
  term: state.lastTerm,
  logTime: state.logTime,
  configuration: state.configuration.configuration,
  bytes: state.encode(),
});

/** Takes a run of whole batches into a state, as far as they follow it and end at or below `to`. */
export const foldRun = (state: LogState, run: Uint8Array, to: Offset): void => {
  forEachBatch(run, (at) => {
    if (batchFirstOffset(run, at) !== state.lastOffset + 1 || batchLastOffset(run, at) > to) return;
    const isControl = batchIsControl(run, at);
    state.apply(
      run.subarray(at),
      isControl ? batchControlKind(run, at) : 0,
      isControl ? batchControlPayload(run, at) : null,
      false,
    );
  });
};

/** The base a log would have if everything up to `to` (committed, durable) were trimmed. Reads the log in pieces; nothing is changed. */
export const advanceBase = (
  log: PartitionLog,
  base: LogBase,
  options: { readonly to: Offset; readonly sessions: SessionLimits },
  done: (error: Error | null, base: LogBase) => void,
): void => {
  const { to } = options;
  const state = LogState.decode(base.bytes, options.sessions);
  const next = (): void => {
    if (state.lastOffset >= to) {
      done(null, baseOf(state));
      return;
    }
    const from = asOffset(state.lastOffset + 1);
    log.read({ from, to, bytesMax: READ_BYTES }, (error, run) => {
      if (error !== null) {
        done(error, base);
        return;
      }
      foldRun(state, run, to);
      // The next batch reaches beyond `to`: the base ends before it.
      if (state.lastOffset < from) done(null, baseOf(state));
      else next();
    });
  };
  next();
};

export interface RecoveredState {
  readonly state: LogState;
  readonly base: LogBase;
  /** Known to be committed: what the hard state says, and what a checkpoint holds, which may have been saved later. */
  readonly commit: Offset;
}

/**
 * State and base of a log that is opened: from its newest usable checkpoint and the headers after it. What lies above the commit offset
 * known to be safe can be taken back.
 * @throws TidelineError `storage-damaged` when the scan meets damage (`log.damaged` says where), or when the log does not go back to its beginning
 * and no checkpoint bridges the gap
 */
export const recoverState = (
  log: PartitionLog,
  options: { readonly bootstrapVoters: readonly NodeId[]; readonly sessions: SessionLimits },
): RecoveredState => {
  const { state, base } = startOf(log, options);
  const commit = asOffset(Math.max(log.baseOffset, state.lastOffset, Math.min(log.state.commit, log.lastOffset)));
  if (state.lastOffset < log.lastOffset) {
    log.scanHeadersSync(asOffset(state.lastOffset + 1), (header, controlPayload) => {
      if (batchFirstOffset(header) <= state.lastOffset) return;
      if (batchFirstOffset(header) !== state.lastOffset + 1) throw gapAfter(log, state.lastOffset);
      const controlKind = controlPayload === null ? 0 : batchControlKind(header);
      state.apply(header, controlKind, controlPayload, batchLastOffset(header) > commit);
    });
  }
  if (state.lastOffset !== log.lastOffset) throw gapAfter(log, state.lastOffset);
  return { state, base, commit };
};

const gapAfter = (log: PartitionLog, offset: Offset): TidelineError =>
  new TidelineError('storage-damaged', `the log of group ${log.group} has a gap after offset ${offset}`, {
    details: { group: log.group, offset },
  });

const startOf = (
  log: PartitionLog,
  options: { readonly bootstrapVoters: readonly NodeId[]; readonly sessions: SessionLimits },
): { state: LogState; base: LogBase } => {
  let cause: unknown;
  for (const checkpoint of log.checkpoints) {
    if (checkpoint.offset < log.baseOffset) continue;
    try {
      return readCheckpoint(log, checkpoint, options.sessions);
    } catch (error) {
      if (!(error instanceof TidelineError)) throw error;
      cause = error;
    }
  }
  if (log.baseOffset > 0) {
    throw new TidelineError(
      'storage-damaged',
      `the log of group ${log.group} begins after offset ${log.baseOffset} and no checkpoint says what came before`,
      { cause, details: { group: log.group, baseOffset: log.baseOffset } },
    );
  }
  const state = LogState.initial(options.bootstrapVoters, options.sessions);
  return { state, base: baseOf(state) };
};

const readCheckpoint = (
  log: PartitionLog,
  checkpoint: Checkpoint,
  sessions: SessionLimits,
): { state: LogState; base: LogBase } => {
  const states = decodeCheckpoint(checkpoint.bytes);
  const state = LogState.decode(states.state, sessions);
  const base = LogState.decode(states.base, sessions);
  if (state.lastOffset !== checkpoint.offset) {
    throw new TidelineError('malformed-frame', `a checkpoint at ${checkpoint.offset} says ${state.lastOffset}`);
  }
  // An older checkpoint can have a base from before the last trim; then its own state is the lowest that is left.
  return { state, base: baseOf(base.lastOffset >= log.baseOffset ? base : state) };
};

/** The state that a snapshot carries; null when it does not parse or is not the state at that offset. */
export const stateOfSnapshot = (
  snapshot: { readonly offset: Offset; readonly term: Term; readonly state: Uint8Array },
  sessions: SessionLimits,
): LogState | null => {
  try {
    const state = LogState.decode(decodeCheckpoint(snapshot.state).state, sessions);
    return state.lastOffset === snapshot.offset && state.lastTerm === snapshot.term ? state : null;
  } catch (error) {
    if (error instanceof TidelineError) return null;
    throw error;
  }
};
