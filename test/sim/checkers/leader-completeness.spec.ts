import { asGroupId, asNodeId, asOffset, asTerm } from '#kernel';
import { sampleBatch } from '../../../libs/storage/src/testing/index.js';
import { describe, expect, test } from '@jest/globals';
import { GroupRecord, type Replica } from '../observer.js';
import { ShadowLog } from '../shadow-log.js';
import { LeaderCompletenessChecker } from './leader-completeness.js';

const GROUP = asGroupId(2);

/** A log of one batch for each of these terms. */
const logOf = (node: number, terms: readonly number[]): ShadowLog => {
  const shadow = new ShadowLog(asNodeId(node));
  for (const [i, term] of terms.entries()) {
    shadow.append(sampleBatch({ group: GROUP, firstOffset: i + 1, term }), true);
  }
  return shadow;
};

const leading = (record: GroupRecord, shadow: ShadowLog, term: number): Replica => ({
  node: shadow.node,
  record,
  shadow,
  group: { id: GROUP, term: asTerm(term), isLeader: true, commitOffset: asOffset(0) } as Replica['group'],
});

describe('leader completeness', () => {
  test('a leader that hears late of its election need not have what a later one has committed meanwhile', () => {
    // Seed 904 at commit 8fddd81: node 2 stood still, was elected in term 5, and woke up when term 6 had committed offset 3.
    const record = new GroupRecord(GROUP);
    const committed = logOf(5, [4, 4, 6]).entries;
    for (const entry of committed) record.commit(entry, entry.term);
    const checker = new LeaderCompletenessChecker();
    expect(() => checker.elected(leading(record, logOf(2, [4, 4, 5]), 5))).not.toThrow();
  });

  test('a leader without what an earlier one has committed is found', () => {
    const record = new GroupRecord(GROUP);
    for (const entry of logOf(5, [4, 4, 6]).entries) record.commit(entry, entry.term);
    const checker = new LeaderCompletenessChecker();
    expect(() => checker.elected(leading(record, logOf(2, [4, 4, 5]), 7))).toThrow('without what is committed up to 3');
    expect(() => checker.elected(leading(record, logOf(2, [4]), 5))).toThrow('without what is committed up to 2');
  });
});
