import type { GroupId } from '#kernel';

/** The topic with views, of one to three partitions, and one that is a log and nothing else. */
export const THINGS = 'things';
export const EVENTS = 'events';

/** A partition and its Raft group. */
export interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly group: GroupId;
}
