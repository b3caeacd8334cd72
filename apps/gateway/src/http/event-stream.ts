import type { ServerResponse } from 'node:http';
import { afterRunning, type TidelineError } from '#kernel';
import { toProblem } from '#platform';
import type { GatewayLimits, GatewayTime } from '../gateway-options.js';

/**
 * The writing end of Server-Sent Events (HTML Living Standard §9.2). What one turn of the event loop gives goes out in one write; a reader that
 * is behind by more than streamBufferBytesMax is told to the source as full, so that nothing grows here.
 *
 *     retry: 1000            once
 *     id: 0:42
 *     event: record
 *     data: {…}
 *
 *     : …                    when there was nothing to say for a while
 *     event: end             the server ends the stream; data is a problem (RFC 9457), absent when all is said
 */
const RETRY_MS = 1000;
/** A reader that was dropped gets this long to take the last event. */
const LAST_EVENT_GRACE_MS = 5_000;

export class EventStream {
  private pending = `retry: ${RETRY_MS}\n\n`;
  private flushScheduled = false;
  private waiting = false;
  private closed = false;
  private quiet = true;
  private readonly cancelHeartbeat: { cancel: () => void };
  /** Called when a stream that said it was full has room again. */
  onRoom: () => void = () => undefined;
  /** Called once when the reader has gone. */
  onClose: () => void = () => undefined;
  /** What to say besides a comment when it was quiet, e.g. an id. */
  heartbeat: () => string = () => '';

  constructor(
    private readonly response: ServerResponse,
    private readonly limits: GatewayLimits,
    private readonly time: GatewayTime,
    headers: Readonly<Record<string, string>>,
  ) {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // Proxies that gather answers (nginx) would hold events back.
      'x-accel-buffering': 'no',
      ...headers,
    });
    response.on('drain', () => this.drained());
    response.on('close', () => {
      this.stop();
      this.onClose();
    });
    response.on('error', () => undefined);
    this.cancelHeartbeat = { cancel: this.scheduleHeartbeat() };
    this.scheduleFlush();
  }

  /** False: the reader is behind; `onRoom` says when to go on. */
  event(name: string, id: string | null, data: string): boolean {
    return this.write(
      id === null ? `event: ${name}\ndata: ${data}\n\n` : `id: ${id}\nevent: ${name}\ndata: ${data}\n\n`,
    );
  }

  /** The server's last word. */
  end(error: TidelineError | null): void {
    if (this.closed) return;
    const data = error === null ? '{}' : JSON.stringify(toProblem(error, { write: false }).body);
    this.write(`event: end\ndata: ${data}\n\n`);
    this.flush();
    this.stop();
    this.response.end();
    const cancel = afterRunning(this.time.scheduler, LAST_EVENT_GRACE_MS, () => this.response.destroy());
    this.response.once('close', cancel);
  }

  private write(text: string): boolean {
    if (this.closed) return true;
    this.pending += text;
    this.quiet = false;
    this.scheduleFlush();
    if (this.pending.length + this.response.writableLength < this.limits.streamBufferBytesMax) return true;
    this.waiting = true;
    return false;
  }

  private scheduleFlush(): void {
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    this.time.scheduler.defer(() => {
      this.flushScheduled = false;
      this.flush();
      if (!this.response.writableNeedDrain) this.drained();
    });
  }

  private flush(): void {
    if (this.closed || this.pending === '') return;
    const text = this.pending;
    this.pending = '';
    this.response.write(text);
  }

  private drained(): void {
    if (!this.waiting || this.closed) return;
    this.waiting = false;
    this.onRoom();
  }

  private scheduleHeartbeat(): () => void {
    return this.time.scheduler.after(this.limits.heartbeatMs, () => {
      // A reader that is behind needs no sign of life.
      if (this.quiet && this.response.writableLength === 0) this.write(`: \n${this.heartbeat()}\n`);
      this.quiet = true;
      this.cancelHeartbeat.cancel = this.scheduleHeartbeat();
    });
  }

  private stop(): void {
    this.closed = true;
    this.cancelHeartbeat.cancel();
  }
}
