import { asGroupId, asNodeId, asOffset, asTerm } from '#kernel';
import { sampleBatch } from '../../libs/storage/src/testing/index.js';
import { describe, expect, test } from '@jest/globals';
import { DurableQuorumChecker } from './checkers/durable-quorum.js';
import { GroupRecord, Observer, type Replica } from './observer.js';

const GROUP = asGroupId(1);
const [first, second, third] = [1, 2, 3].map(asNodeId);

/** Three voters; the first two have one batch, durable, and the first says that it is committed. */
const scene = (): { record: GroupRecord; replica: Replica } => {
  const record = new GroupRecord(GROUP);
  const batch = sampleBatch({ group: GROUP, firstOffset: 1, term: 1 });
  for (const node of [first, second]) {
    const shadow = record.shadow(node);
    shadow.append(batch, true);
    shadow.durable = asOffset(1);
  }
  const replica: Replica = {
    node: first,
    record,
    shadow: record.shadow(first),
    group: {
      id: GROUP,
      term: asTerm(1),
      isLeader: true,
      commitOffset: asOffset(1),
      configuration: { voters: [first, second, third], outgoing: [], learners: [] },
    } as unknown as Replica['group'],
  };
  return { record, replica };
};

describe('the observer', () => {
  test('takes for committed what a quorum has', () => {
    const { record, replica } = scene();
    new Observer([new DurableQuorumChecker()]).touched(replica);
    expect(record.commitMax).toBe(1);
  });

  test('counts a disk that was lost with what it had acknowledged, and no other', () => {
    // Seeds 32963 and 33093 at commit 84278ef: the leader heard of the acknowledgement before, and committed after the loss.
    const { record, replica } = scene();
    record.loseDisk(second);
    new Observer([new DurableQuorumChecker()]).touched(replica);
    expect(record.commitMax).toBe(1);
  });

  test('finds what is taken for committed without a quorum', () => {
    const { record, replica } = scene();
    record.shadow(second).durable = asOffset(0);
    expect(() => new Observer([new DurableQuorumChecker()]).touched(replica)).toThrow('for committed');
    record.loseDisk(second);
    expect(() =>
      new Observer([new DurableQuorumChecker()]).touched({ ...replica, shadow: record.shadow(third) }),
    ).toThrow('for committed');
  });
});
