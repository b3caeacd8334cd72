import { NO_OFFSET, asOffset, assert, type Offset } from '#kernel';
import { promise } from './read-lease.js';
import { hearLeader } from './roles.js';
import type { CoreState } from './core-state.js';
import type { AppendRequest, Entry, Heartbeat, SnapshotRequest } from './types.js';

/** What a follower does with a leader's messages, all of its own term (raft-core.ts has seen to that). */

export const append = (state: CoreState, request: AppendRequest): void => {
  hearLeader(state, request.from);
  if (!isWellFormed(request)) return;
  const { log } = state;
  const { prevOffset, prevTerm, entries } = request;
  // What is committed matches in any case; its terms may no longer be known here.
  if (prevOffset > state.commit && !log.matches(prevOffset, prevTerm)) {
    reject(state, request);
    return;
  }
  for (let i = 0; i < entries.length; i++) {
    const { firstOffset, lastOffset, term } = entries[i];
    if (firstOffset > log.lastOffset) {
      acceptEntries(state, entries, i);
      break;
    }
    if (lastOffset <= state.commit || log.matches(lastOffset, term)) continue;
    cutAfter(state, asOffset(firstOffset - 1));
    acceptEntries(state, entries, i);
    break;
  }
  const end = entries.length > 0 ? entries[entries.length - 1].lastOffset : prevOffset;
  const commit = request.commit < end ? request.commit : end;
  const news = commit > state.commit;
  if (news) state.commitUpTo(commit);
  // Nothing but a new commit offset, for entries acknowledged before: no need to say so again.
  if (entries.length === 0 && news && state.acknowledged >= prevOffset) return;
  acknowledge(state, end > state.commit ? end : state.commit);
};

/** A leader sends consecutive entries of rising terms, none above its own. */
const isWellFormed = ({ prevOffset, prevTerm, entries, term }: AppendRequest): boolean => {
  let next: number = prevOffset + 1;
  let lastTerm = prevTerm;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i];
    if (entry.firstOffset !== next || entry.lastOffset < next || entry.term < lastTerm) return false;
    if ((entry.kind === 'configuration') !== (entry.configuration !== undefined)) return false;
    next = entry.lastOffset + 1;
    lastTerm = entry.term;
  }
  return lastTerm <= term;
};

const acceptEntries = (state: CoreState, entries: readonly Entry[], from: number): void => {
  const { log, configurations } = state;
  for (let i = from; i < entries.length; i++) {
    const entry = entries[i];
    log.append(entry);
    if (entry.configuration !== undefined) configurations.append(entry.configuration, entry.firstOffset);
  }
};

/** Cuts what differs from the leader's log. */
const cutAfter = (state: CoreState, offset: Offset): void => {
  assert(state.role === 'follower', 'a leader never overwrites its log');
  assert(offset >= state.commit, 'nothing committed is cut');
  state.log.truncateAfter(offset);
  state.durability.cut(offset);
  state.configurations.truncateAfter(offset);
  state.outbox.forgetAcknowledgements(offset);
  if (state.acknowledged > offset) state.acknowledged = offset;
  // Entries the driver has not seen need no cutting.
  if (offset >= state.handedOver) return;
  state.handedOver = offset;
  state.outbox.truncateAfter = offset;
};

const acknowledge = (state: CoreState, offset: Offset): void => {
  if (offset > state.acknowledged) state.acknowledged = offset;
  state.outbox.respondToAppend({
    type: 'append-response',
    from: state.id,
    to: state.leader,
    term: state.term,
    success: true,
    offset,
    hintTerm: state.term,
    hintOffset: NO_OFFSET,
  });
};

/** Says which term this log has at prevOffset, or at its end if that comes first, and from where on it can be wrong. */
const reject = (state: CoreState, request: AppendRequest): void => {
  const { log, commit } = state;
  const offset = request.prevOffset < log.lastOffset ? request.prevOffset : log.lastOffset;
  const start = log.termStartOf(offset);
  state.outbox.respondToAppend({
    type: 'append-response',
    from: state.id,
    to: request.from,
    term: state.term,
    success: false,
    offset,
    hintTerm: log.termAt(offset),
    // Up to the commit offset the logs agree, whatever the terms are.
    hintOffset: start > commit ? start : asOffset(commit + 1),
  });
};

export const heartbeat = (state: CoreState, { from, commit, round }: Heartbeat): void => {
  hearLeader(state, from);
  // The leader knows this log to reach that far; a log that does not is not the one it knows.
  if (commit > state.commit && commit <= state.log.lastOffset) state.commitUpTo(commit);
  const promiseMs = promise(state);
  state.outbox.send(
    promiseMs === 0
      ? { type: 'heartbeat-response', from: state.id, to: from, term: state.term, round }
      : { type: 'heartbeat-response', from: state.id, to: from, term: state.term, round, promiseMs },
  );
};

/** State in place of the log up to an offset, from a leader whose log no longer goes back to where this one ends. */
export const installSnapshot = (state: CoreState, { from, snapshot }: SnapshotRequest): void => {
  hearLeader(state, from);
  assert(state.role === 'follower', 'a leader never installs a snapshot');
  if (snapshot.offset > state.commit) {
    const isPrefix = state.log.matches(snapshot.offset, snapshot.term);
    if (!isPrefix) replaceLog(state, snapshot);
    else {
      // While a cut is due the storage may hold other entries behind this offset than the log does; then the log's own prefix serves.
      if (state.outbox.truncateAfter === null) replacePrefix(state, snapshot);
      if (snapshot.offset > state.commit) state.commitUpTo(snapshot.offset);
    }
  }
  if (state.commit > state.acknowledged) state.acknowledged = state.commit;
  state.outbox.sendAfterPersist({
    type: 'snapshot-response',
    from: state.id,
    to: from,
    term: state.term,
    offset: state.commit,
  });
};

const replaceLog = (state: CoreState, snapshot: SnapshotRequest['snapshot']): void => {
  const { log, configurations, outbox } = state;
  // The discarded suffix counts for nothing; what is committed is part of the snapshot.
  state.durability.cut(state.commit);
  outbox.forgetAcknowledgements(state.commit);
  log.reset(snapshot.offset, snapshot.term);
  configurations.replace(snapshot.configuration, snapshot.offset);
  outbox.snapshot = snapshot;
  outbox.keepSuffix = false;
  outbox.truncateAfter = null;
  state.handedOver = snapshot.offset;
  state.acknowledged = NO_OFFSET;
  state.commit = snapshot.offset;
};

const replacePrefix = (state: CoreState, snapshot: SnapshotRequest['snapshot']): void => {
  const { log, configurations, outbox } = state;
  state.commitUpTo(snapshot.offset);
  log.trimTo(snapshot.offset, snapshot.term);
  if (configurations.currentOffset <= snapshot.offset) {
    configurations.replace(snapshot.configuration, snapshot.offset);
  }
  outbox.snapshot = snapshot;
  outbox.keepSuffix = true;
  if (state.handedOver < snapshot.offset) state.handedOver = snapshot.offset;
};
