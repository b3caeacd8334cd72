import { get, type IncomingMessage } from 'node:http';
import { randomBelow, type Rng } from '#kernel';
import {
  RECORD_PARTITIONS,
  RECORD_TOPIC,
  textOf,
  type RecordJson,
  type SeenRecord,
  type TopicReader,
} from './record-load.js';

/** A stream is left so often, however well it goes. */
const STAY_MS_MIN = 500;
const STAY_MS_MAX = 8_000;
/** Nothing came for so long: another gateway may know more. */
const SILENCE_MS_MAX = 3_000;
const PAUSE_MS = 100;

/** The tail by REST: server-sent events, left again and again, and resumed at the next gateway with Last-Event-ID. */
export class EventTail implements TopicReader {
  readonly seen: SeenRecord[][] = Array.from({ length: RECORD_PARTITIONS }, () => []);
  readonly problems: string[] = [];
  /** Streams that were opened and gave something. */
  private streams = 0;
  private lastEventId: string | null = null;
  private running = true;
  private leave: () => void = () => undefined;
  private readonly done: Promise<void>;

  constructor(
    private readonly addresses: readonly string[],
    private readonly rng: Rng,
  ) {
    this.done = this.follow();
  }

  get name(): string {
    return `a tail by server-sent events, over ${this.streams} streams,`;
  }

  private async follow(): Promise<void> {
    for (let i = 0; this.running; i++) {
      await this.stream(this.addresses[i % this.addresses.length]);
      if (this.running) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** Resolves when it has ended, however. */
  private stream(address: string): Promise<void> {
    return new Promise((resolve) => {
      let response: IncomingMessage | null = null;
      let left = false;
      const headers = this.lastEventId === null ? {} : { 'last-event-id': this.lastEventId };
      const request = get(
        `http://${address}/v1/topics/${RECORD_TOPIC}/tail?from=earliest`,
        { headers, agent: false },
        (answer) => {
          response = answer;
          if (answer.statusCode !== 200) {
            leave();
            return;
          }
          let text = '';
          let counted = false;
          answer.setEncoding('utf8');
          answer.on('data', (chunk: string) => {
            silence.refresh();
            // What comes after the reader has gone is not read: it will come again.
            if (left) return;
            text += chunk;
            let end: number;
            while ((end = text.indexOf('\n\n')) >= 0) {
              this.event(text.slice(0, end));
              text = text.slice(end + 2);
            }
            if (!counted) this.streams++;
            counted = true;
          });
          answer.on('error', () => undefined);
          answer.on('close', () => leave());
        },
      );
      const leave = (): void => {
        if (left) return;
        left = true;
        clearTimeout(silence);
        clearTimeout(stay);
        response?.destroy();
        request.destroy();
        resolve();
      };
      const silence = setTimeout(leave, SILENCE_MS_MAX);
      const stay = setTimeout(leave, STAY_MS_MIN + randomBelow(this.rng, STAY_MS_MAX - STAY_MS_MIN));
      this.leave = leave;
      request.on('error', leave);
      request.on('close', leave);
    });
  }

  private event(text: string): void {
    let name = '';
    let id: string | null = null;
    let data = '';
    for (const line of text.split('\n')) {
      const colon = line.indexOf(': ');
      const field = line.slice(0, colon);
      const value = line.slice(colon + 2);
      if (field === 'event') name = value;
      else if (field === 'id') id = value;
      else if (field === 'data') data = value;
    }
    if (name === 'record') {
      const record = JSON.parse(data) as RecordJson;
      this.seen[record.partition].push({ offset: record.offset, value: textOf(record) });
      if (id === null) this.problems.push(`record ${record.partition}:${record.offset} came without an id`);
    }
    if (id !== null) this.lastEventId = id;
  }

  async close(): Promise<void> {
    this.running = false;
    this.leave();
    await this.done;
  }
}
