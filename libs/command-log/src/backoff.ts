import { randomBelow, type Rng } from '#kernel';

export const BACKOFF_BASE_MS = 5;
export const BACKOFF_CAP_MS = 100;

/**
 * Delay before the next attempt, in ms: doubles from BACKOFF_BASE_MS to BACKOFF_CAP_MS, and half of it is drawn at random, so
 * that those who failed together do not come back together. The cap is short because what is waited for is an election.
 */
export const backoffMs = (rng: Rng, attempt: number): number => {
  const full = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 10));
  return full / 2 + randomBelow(rng, Math.floor(full / 2) + 1);
};
