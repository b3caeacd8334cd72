import { RecordCursor, batchIsControl } from '#wire';
import type { GroupRecord } from './observer.js';
import type { ShadowEntry } from './shadow-log.js';

/** What became of a client's write, as far as the client knows. */
export type WriteFate = 'acknowledged' | 'rejected' | 'unknown';

export interface Write {
  readonly topic: string;
  /** Unique in the run. */
  readonly value: string;
  readonly fate: WriteFate;
  /** Where it was said to stand. */
  readonly offset: number | null;
  /** It was sent in a way that lets it take effect at most once. */
  readonly once: boolean;
}

/** What clients wrote and what they were told, and where it stands in the committed logs: every written value is unique. */
export class WriteLedger {
  records = 0;
  readonly writes: Write[] = [];
  /** Offsets of each value in the committed logs of a topic. */
  private readonly places = new Map<string, number[]>();
  private readonly cursor = new RecordCursor();

  constructor(private readonly topicOf: (group: number) => string | null) {}

  wrote(write: Write): void {
    this.writes.push(write);
  }

  committed(record: GroupRecord, entry: ShadowEntry): void {
    const topic = this.topicOf(record.id);
    if (topic === null) return;
    const bytes = Buffer.from(entry.bytes!);
    if (batchIsControl(bytes)) return;
    for (this.cursor.reset(bytes, 0); this.cursor.next();) {
      this.records++;
      const { value } = this.cursor;
      if (value === null) continue;
      const name = nameOf(topic, value.toString('latin1'));
      const places = this.places.get(name);
      if (places === undefined) this.places.set(name, [this.cursor.offset]);
      else places.push(this.cursor.offset);
    }
  }

  placesOf({ topic, value }: Write): readonly number[] {
    return this.places.get(nameOf(topic, value)) ?? [];
  }
}

const nameOf = (topic: string, value: string): string => `${topic}:${value}`;
