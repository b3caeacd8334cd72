import type { Clock, Offset } from '#kernel';

/** A data type threw on a command. */
export interface Defect {
  readonly view: string;
  readonly partition: number;
  /** Of the command. */
  readonly name: string;
  readonly offset: Offset;
  readonly error: unknown;
}

const REMEMBERED_MAX = 1000;
const LINES_PER_MINUTE = 10;
const MESSAGE_CHARS_MAX = 500;

/** One line for each command a data type failed on, however often it is applied; of many, some, and how many were not told. */
export class DefectLog {
  private readonly seen = new Set<string>();
  private minute = -1;
  private lines = 0;
  private untold = 0;

  constructor(
    private readonly clock: Clock,
    private readonly write: (line: string) => void,
  ) {}

  add({ view, partition, name, offset, error }: Defect): void {
    const id = `${view}/${partition}/${offset}/${name}`;
    if (this.seen.has(id)) return;
    this.seen.add(id);
    if (this.seen.size > REMEMBERED_MAX) this.seen.delete(this.seen.values().next().value!);
    const minute = Math.floor(this.clock.monotonicMs() / 60_000);
    if (minute !== this.minute) {
      if (this.untold > 0) this.write(`data types failed on ${this.untold} commands more`);
      this.minute = minute;
      this.lines = this.untold = 0;
    }
    if (this.lines === LINES_PER_MINUTE) {
      this.untold++;
      return;
    }
    this.lines++;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.write(
      `the data type of ${name} failed at offset ${offset} of view ${view}, partition ${partition}; the command had no effect: ` +
        text.slice(0, MESSAGE_CHARS_MAX),
    );
  }
}
