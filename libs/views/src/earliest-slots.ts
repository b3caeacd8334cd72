import { SLOTS } from '#kernel';

/**
 * Which slot has the entry that expires first: a tournament among the slots (Knuth, The Art of Computer Programming, volume 3, 5.4.1). Asking
 * costs nothing, a change of one slot eight comparisons at most. Of slots with the same time the lowest is first.
 */
export class EarliestSlots {
  /** When the first entry of each slot expires; Infinity: never. */
  private readonly times = new Float64Array(SLOTS).fill(Infinity);
  /** Node n has the nodes 2n and 2n + 1 below it; node SLOTS + s is slot s itself. In it is the slot that is first of those below. */
  private readonly winners = new Uint8Array(2 * SLOTS).map((_, node) => this.leftmost(node));

  /** The slot that is first. */
  get first(): number {
    return this.winners[1];
  }

  /** Its time; Infinity: nothing expires. */
  get earliest(): number {
    return this.times[this.winners[1]];
  }

  set(slot: number, time: number): void {
    const { times, winners } = this;
    if (times[slot] === time) return;
    times[slot] = time;
    for (let node = (SLOTS + slot) >>> 1; node > 0; node >>>= 1) {
      const left = winners[2 * node];
      const right = winners[2 * node + 1];
      const winner = times[right] < times[left] ? right : left;
      // Neither was, nor is, the changed slot first here: nothing changes above.
      if (winner === winners[node] && winner !== slot) return;
      winners[node] = winner;
    }
  }

  private leftmost(node: number): number {
    let at = Math.max(node, 1);
    while (at < SLOTS) at *= 2;
    return at - SLOTS;
  }
}
