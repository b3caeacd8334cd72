import type { NodeId } from '#kernel';
import type { Configuration } from './types.js';

/** Majorities, of one set of voters or of both while a configuration is joint. */

/** The largest number that a majority of `values` reaches; sorts `values`. At least one value. */
export const majorityValue = (values: number[]): number => {
  // Insertion sort: a handful of voters, no comparator call.
  for (let i = 1; i < values.length; i++) {
    const value = values[i];
    let j = i - 1;
    for (; j >= 0 && values[j] > value; j--) values[j + 1] = values[j];
    values[j + 1] = value;
  }
  return values[(values.length - 1) >> 1];
};

export type Tally = 'won' | 'lost' | 'open';

const tallyOf = (voters: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): Tally => {
  let granted = 0;
  let refused = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === true) granted++;
    else if (vote === false) refused++;
  }
  const needed = (voters.length >> 1) + 1;
  if (granted >= needed) return 'won';
  return voters.length - refused < needed ? 'lost' : 'open';
};

/** Where an election stands. Votes of nodes that are no voters do not count. */
export const tally = (configuration: Configuration, votes: ReadonlyMap<NodeId, boolean>): Tally => {
  const incoming = tallyOf(configuration.voters, votes);
  if (configuration.outgoing.length === 0 || incoming === 'lost') return incoming;
  const outgoing = tallyOf(configuration.outgoing, votes);
  if (outgoing === 'lost') return 'lost';
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'open';
};
