/** Which turn of the event loop took longest, and what it spent its time on: work of its own, the garbage collector, or waiting for the machine. */
import { openSync, closeSync, readSync } from 'node:fs';
import { PerformanceObserver, constants } from 'node:perf_hooks';

/** By name, in ms unless it says otherwise; what the platform does not tell is not there. The figure is the wall time: nothing is taken off it. */
export type LongestTurn = Readonly<Record<string, number>>;

/** The processor time taken from the machine is counted by the hundredth of a second, and costs more to ask for than all else. */
const STOLEN_EVERY_MS = 20;
const MS_PER_TICK = 10;
/** Of user, nice, system, idle, iowait, irq, softirq, steal. */
const STEAL_FIELD = 7;
const NS_PER_MS = 1e6;
const SPACE = 0x20;
const ZERO = 0x30;

const isDigit = (byte: number): boolean => byte >= ZERO && byte < ZERO + 10;

const KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'scavenge',
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'mark-compact',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental marking',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weak callbacks',
};

/** A file of the kernel's counters, kept open; null: there is no such file. */
class CounterFile {
  private readonly bytes = Buffer.alloc(256);
  private length = 0;

  private constructor(private readonly file: number) {}

  static open(path: string): CounterFile | null {
    try {
      return new CounterFile(openSync(path, 'r'));
    } catch {
      return null;
    }
  }

  /** Reads it; `number` then says what it has. */
  read(): this {
    this.length = readSync(this.file, this.bytes, 0, this.bytes.length, 0);
    return this;
  }

  /** The number at this place of the first line. Nothing is made for it: it is asked for in every turn. */
  number(place: number): number {
    const { bytes, length } = this;
    let at = 0;
    for (let before = -1; at < length && before < place; at++) {
      if (isDigit(bytes[at]) && (at === 0 || bytes[at - 1] === SPACE)) before++;
    }
    let value = 0;
    for (at--; at < length && isDigit(bytes[at]); at++) value = value * 10 + bytes[at] - ZERO;
    return value;
  }

  close(): void {
    closeSync(this.file);
  }
}

interface Counters {
  readonly atMs: number;
  /** Of all threads of the process, those that collect garbage included. */
  readonly cpuUs: number;
  readonly majorFaults: number;
  readonly switchedAway: number;
  /** Of the thread that turns: on a processor, and waiting for one. */
  readonly ranNs: number;
  readonly waitedNs: number;
}

interface Turn {
  readonly began: Counters;
  readonly ended: Counters;
  readonly stolenMs: number;
}

/** As the observer of garbage collection gives them. */
interface GarbageEntry {
  readonly startTime: number;
  readonly duration: number;
  readonly detail: { readonly kind: number };
}

interface Collection {
  readonly kind: string;
  readonly startMs: number;
  readonly ms: number;
}

/**
 * Watches the turns of the event loop from the start to `end`. What is asked for in each of them takes some 5 µs; the files are kept open for it.
 */
export class TurnWatch {
  // Of the main thread, whose id is that of the process.
  private readonly schedule = CounterFile.open(`/proc/self/task/${process.pid}/schedstat`);
  private readonly machine = CounterFile.open('/proc/stat');
  private readonly collections: Collection[] = [];
  private readonly observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries() as unknown as GarbageEntry[]) {
      this.collections.push({ kind: KINDS[entry.detail.kind], startMs: entry.startTime, ms: entry.duration });
    }
  });
  private over = false;
  private longest: Turn | null = null;
  /** Of the turns in which, and shortly before which, the machine had its processors to itself. */
  private longestUndisturbedMs = 0;
  /** Of any turn. */
  private mostCpuUs = 0;
  private mostRanNs = 0;
  private readonly watching: Promise<void>;

  constructor() {
    this.observer.observe({ entryTypes: ['gc'] });
    this.watching = this.watch();
  }

  private async watch(): Promise<void> {
    let began = this.counters();
    let stolenAtMs = began.atMs;
    let stolenMs = this.stolenMs();
    while (!this.over) {
      await turn();
      const ended = this.counters();
      const ms = ended.atMs - began.atMs;
      const isLongest = this.longest === null || ms > lengthOf(this.longest);
      this.mostCpuUs = Math.max(this.mostCpuUs, ended.cpuUs - began.cpuUs);
      this.mostRanNs = Math.max(this.mostRanNs, ended.ranNs - began.ranNs);
      let stolenInIt = 0;
      if (ms > this.longestUndisturbedMs || ended.atMs - stolenAtMs >= STOLEN_EVERY_MS) {
        const now = this.stolenMs();
        stolenInIt = now - stolenMs;
        stolenMs = now;
        stolenAtMs = ended.atMs;
        if (stolenInIt === 0) this.longestUndisturbedMs = Math.max(this.longestUndisturbedMs, ms);
      }
      if (isLongest) this.longest = { began, ended, stolenMs: stolenInIt };
      // What was just looked at is not of the next turn.
      began = this.counters();
    }
  }

  private counters(): Counters {
    const { userCPUTime, systemCPUTime, majorPageFault, involuntaryContextSwitches } = process.resourceUsage();
    const schedule = this.schedule?.read();
    return {
      cpuUs: userCPUTime + systemCPUTime,
      majorFaults: majorPageFault,
      switchedAway: involuntaryContextSwitches,
      ranNs: schedule?.number(0) ?? 0,
      waitedNs: schedule?.number(1) ?? 0,
      atMs: performance.now(),
    };
  }

  /** Of all processors, since the machine started. */
  private stolenMs(): number {
    return (this.machine?.read().number(STEAL_FIELD) ?? 0) * MS_PER_TICK;
  }

  async end(): Promise<LongestTurn> {
    this.over = true;
    await this.watching;
    // Collections are told of in a turn after theirs.
    await turn();
    this.observer.disconnect();
    this.schedule?.close();
    this.machine?.close();
    const longest = this.longest!;
    return {
      'pause ms': lengthOf(longest),
      ...(this.machine && { 'pause with nothing taken from the machine ms': this.longestUndisturbedMs }),
      'pause CPU ms': this.mostCpuUs / 1000,
      ...(this.schedule && { 'pause CPU of its thread ms': this.mostRanNs / NS_PER_MS }),
      ...this.spentOn(longest),
    };
  }

  private spentOn({ began, ended, stolenMs }: Turn): LongestTurn {
    const { schedule, machine } = this;
    const told: Record<string, number> = { 'CPU of all threads': (ended.cpuUs - began.cpuUs) / 1000 };
    if (schedule) {
      told['CPU of its thread'] = (ended.ranNs - began.ranNs) / NS_PER_MS;
      told['waited for a processor'] = (ended.waitedNs - began.waitedNs) / NS_PER_MS;
    }
    // In it or up to STOLEN_EVERY_MS before it, of all processors together.
    if (machine) told['taken from the machine'] = stolenMs;
    told['times a thread was switched away from'] = ended.switchedAway - began.switchedAway;
    told['pages waited for from disk'] = ended.majorFaults - began.majorFaults;
    for (const { kind, startMs, ms } of this.collections) {
      if (startMs >= began.atMs && startMs < ended.atMs) told[kind] = (told[kind] ?? 0) + ms;
    }
    return Object.fromEntries(Object.entries(told).map(([name, value]) => [`longest turn, ${name}`, value]));
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const lengthOf = ({ began, ended }: Turn): number => ended.atMs - began.atMs;
