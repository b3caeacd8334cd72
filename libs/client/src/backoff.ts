import { randomBelow, type Rng } from '#kernel';

export const BACKOFF_BASE_MS = 5;
export const BACKOFF_CAP_MS = 200;

/** Delay before the next attempt, ms: doubles up to BACKOFF_CAP_MS, half of it drawn at random. */
export const backoffMs = (rng: Rng, attempt: number): number => {
  const full = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 10));
  return full / 2 + randomBelow(rng, Math.floor(full / 2) + 1);
};
