import type { RunResult } from '../run.js';

/** 28: the same seed does the same. What is wrong with a second run of a seed; null when it is as the first. */
export const differenceOfTraces = (first: RunResult, second: RunResult): string | null =>
  first.hash === second.hash && first.events === second.events
    ? null
    : `seed ${first.seed} gives trace hash ${first.hash} with ${first.events} events, and ${second.hash} with ${second.events} when it is run again`;
