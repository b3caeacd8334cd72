import { eventLoopTurn } from './event-loop-turn.js';

/** Wall time and elapsed time, apart: wall time may jump, elapsed time never goes back. */
export interface Clock {
  /** Milliseconds since the Unix epoch, a whole number. May jump either way. */
  wallMs(): number;
  /** Milliseconds since an arbitrary moment; never decreases. */
  monotonicMs(): number;
}

/** Runs functions later. Production: the event loop's turn and setTimeout. Simulation: the one event queue. */
export interface Scheduler {
  /** After the current turn, before any timer; once. */
  defer(task: () => void): void;
  /** Not before `delayMs`. Returns a function that cancels it. */
  after(delayMs: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

export const systemScheduler: Scheduler = {
  defer: (task) => eventLoopTurn.defer(task),
  after: (delayMs, task) => {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};
