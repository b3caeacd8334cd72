import { AssertionFailure, type Clock } from '#kernel';

/** Longer writes keep the disk busy for so long that the threads of the pool are worth their wake-ups. */
export const LOOP_WRITE_BYTES_MAX = 64 * 1024;
/** Most writes must end within this if the event loop is to wait for the disk: one that flushes its cache does, one that seeks does not. */
export const QUICK_MS = 2;
/** The loop was held up by one write for so long that others noticed: half the time between heartbeats. */
export const HANG_MS = 50;
/** Writes that were not quick, more than those that were, until the pool takes over. */
const SLOW_WRITES_MAX = 16;
/** Quick writes that are remembered. */
const QUICK_WRITES_MAX = 64;
/** How long the pool then has all writes: the first time, and at most; each time twice as long. */
export const PAUSE_MS_MIN = 1000;
export const PAUSE_MS_MAX = 300_000;

/**
 * Decides which synced writes the event loop makes itself instead of handing them to libuv's pool. Where the disk is quick, the way through the pool
 * costs more than the disk: two threads are woken for each write. But whatever the loop waits for, everything in the process waits for: other
 * requests, heartbeats, elections.
 *
 *     pool ── nothing took HANG_MS for as long as the pause ──► loop
 *     loop ── one write took HANG_MS, or most took more than QUICK_MS ──► pool, for a pause twice as long as the last one
 *
 * A pause that was followed by as long a time without trouble is forgotten. One for all logs of a process, that is, of a disk: what one of them
 * has found out spares the others finding out.
 */
export class LoopWrites {
  private pauseMs = PAUSE_MS_MIN;
  private pausedUntil: number;
  private resumedAt = 0;
  /** Quick writes less those that were not. */
  private balance = 0;

  constructor(private readonly clock: Clock) {
    this.pausedUntil = clock.monotonicMs() + PAUSE_MS_MIN;
  }

  /** Whether the loop may make a write of so many bytes now. */
  admits(bytes: number): boolean {
    return bytes <= LOOP_WRITE_BYTES_MAX && this.nowMs() >= this.pausedUntil;
  }

  /** Makes the write and learns from it how quick the disk is. Returns its error. */
  make(write: () => void): Error | null {
    const began = this.nowMs();
    let error: Error | null = null;
    try {
      write();
    } catch (thrown) {
      if (thrown instanceof AssertionFailure) throw thrown;
      error = thrown as Error;
    }
    const now = this.nowMs();
    this.learn(now - began, now);
    return error;
  }

  nowMs(): number {
    return this.clock.monotonicMs();
  }

  /** A write by way of the pool, asked for at that time, has ended. */
  pooledSince(beganMs: number): void {
    const now = this.nowMs();
    if (now - beganMs >= HANG_MS) this.pausedUntil = Math.max(this.pausedUntil, now + this.pauseMs);
  }

  private learn(elapsedMs: number, now: number): void {
    if (elapsedMs <= QUICK_MS) {
      if (this.balance < QUICK_WRITES_MAX) this.balance++;
    } else this.balance--;
    if (elapsedMs >= HANG_MS || this.balance <= -SLOW_WRITES_MAX) this.retreat(now);
    else if (this.pauseMs > PAUSE_MS_MIN && now - this.resumedAt >= this.pauseMs) {
      this.pauseMs = PAUSE_MS_MIN;
    }
  }

  private retreat(now: number): void {
    this.balance = 0;
    this.pausedUntil = now + this.pauseMs;
    this.resumedAt = this.pausedUntil;
    this.pauseMs = Math.min(2 * this.pauseMs, PAUSE_MS_MAX);
  }
}
