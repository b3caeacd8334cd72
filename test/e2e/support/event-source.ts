import { request, type IncomingMessage } from 'node:http';

export interface SseEvent {
  readonly id: string | null;
  readonly event: string;
  readonly data: string;
}

/** Reads Server-Sent Events by the rules of the HTML standard, as far as a test needs them; remembers the last event id. */
export class EventReader {
  readonly events: SseEvent[] = [];
  readonly comments: string[] = [];
  lastEventId: string | null = null;
  retry: number | null = null;
  ended = false;
  status = 0;
  headers: IncomingMessage['headers'] = {};
  body = '';
  private buffer = '';
  private waiters: (() => void)[] = [];
  private response: IncomingMessage | null = null;
  private readonly call: ReturnType<typeof request>;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.call = request(url, { headers: { accept: 'text/event-stream', ...headers }, agent: false }, (response) => {
      this.response = response;
      this.status = response.statusCode ?? 0;
      this.headers = response.headers;
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => this.take(chunk));
      response.on('close', () => {
        this.ended = true;
        this.wake();
      });
      this.wake();
    });
    this.call.on('error', () => {
      this.ended = true;
      this.wake();
    });
    this.call.end();
  }

  private take(chunk: string): void {
    this.body += chunk;
    this.buffer += chunk;
    for (let end = this.buffer.indexOf('\n\n'); end >= 0; end = this.buffer.indexOf('\n\n')) {
      this.block(this.buffer.slice(0, end));
      this.buffer = this.buffer.slice(end + 2);
    }
    this.wake();
  }

  private block(text: string): void {
    let event = 'message';
    let id: string | null = null;
    const data: string[] = [];
    for (const line of text.split('\n')) {
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === '') this.comments.push(value);
      else if (field === 'event') event = value;
      else if (field === 'id') id = value;
      else if (field === 'data') data.push(value);
      else if (field === 'retry') this.retry = Number(value);
    }
    if (id !== null) this.lastEventId = id;
    if (data.length > 0) this.events.push({ id, event, data: data.join('\n') });
  }

  private wake(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.ended) throw new Error(`the stream ended before: ${this.status} ${this.body.slice(0, 500)}`);
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  async first(count: number): Promise<SseEvent[]> {
    await this.until(() => this.events.length >= count);
    return this.events.slice(0, count);
  }

  async untilEnded(): Promise<void> {
    while (!this.ended) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  opened(): Promise<void> {
    return this.until(() => this.status !== 0);
  }

  pause(): void {
    this.response?.pause();
  }

  resume(): void {
    this.response?.resume();
  }

  close(): void {
    this.call.destroy();
  }
}
