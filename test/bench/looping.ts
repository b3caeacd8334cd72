import type { Contender, Sample } from './bench.js';
import { runInFlight } from './in-flight.js';

/** Whatever is measured, contenders are warmed up with this many: a compiler that compiles what is hot needs something hot. */
export const WARM_UP_IN_FLIGHT = 64;

/** `256 in flight, stale` → 256. */
export const leadingNumber = (which: string): number => Number(which.split(' ')[0]);

/** One client process that keeps as many operations under way as the case says: the same loop for everybody. */
export const looping = (parts: {
  readonly description: string;
  /** Begins with the number in flight. */
  readonly which: string;
  readonly operation: (n: number) => Promise<unknown>;
  readonly measured: (work: () => Promise<Sample>) => Promise<Sample>;
  readonly stop: () => Promise<void>;
}): Contender => {
  const { description, which, operation, measured, stop } = parts;
  return {
    description,
    run: (seconds) => measured(() => runInFlight({ inFlight: leadingNumber(which), seconds }, operation)),
    warmUp: (seconds) => runInFlight({ inFlight: WARM_UP_IN_FLIGHT, seconds }, operation),
    stop,
  };
};
