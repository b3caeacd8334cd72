import { isObservable, type Subscription } from 'rxjs';
import { TidelineError, assert } from '#kernel';
import { errorOfRpc } from './rpc-error.js';
import type { Pace } from './rpc-context.js';

/** Where a response goes: a JSON socket or a framed stream. */
export interface ResponseSink<Packet extends { readonly length: number }> {
  /** Whether the caller takes more at the moment. */
  readonly writable: boolean;
  /** May throw for a value that cannot be written. `last`: the packet also ends the response. */
  encode(value: unknown, last: boolean): Packet;
  send(packet: Packet): void;
  /** The packet that ends a response without an item. */
  encodeEnd(error: TidelineError | null): Packet;
}

const isAsyncIterable = (value: unknown): value is AsyncIterable<unknown> =>
  typeof value === 'object' && value !== null && Symbol.asyncIterator in value;

/**
 * One response, from what a handler returned to its last packet.
 *
 *     value           one packet
 *     AsyncIterable   pulled: the next item is asked for when the caller has room
 *     Observable      pushed: items wait in a queue while the caller has no room; beyond `queueLengthMax` the response ends with
 *                     `too-slow` and the producer is unsubscribed (see `paced` for sources that can wait)
 *
 * However it ends (done, failed, too slow, cancelled by the caller, connection gone), the producer is torn down.
 */
export class ResponseStream<Packet extends { readonly length: number }> implements Pace {
  private readonly queue: Packet[] = [];
  private queueLength = 0;
  /** The newest item, kept to the end of the turn: if it turns out to be the last, its packet says so. */
  private held: { readonly value: unknown } | null = null;
  private done = false;
  private subscription: Subscription | null = null;
  private iterator: AsyncIterator<unknown> | null = null;
  private pulling = false;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly sink: ResponseSink<Packet>,
    private readonly queueLengthMax: number,
    /** Once, after the last packet or on cancel. */
    private readonly finished: () => void,
  ) {}

  get ready(): boolean {
    return !this.done && this.queue.length === 0 && this.sink.writable;
  }

  whenReady(callback: () => void): void {
    if (!this.done) this.waiting.push(callback);
  }

  run(result: unknown): void {
    if (this.done) return;
    if (isObservable(result)) {
      const subscription = result.subscribe({
        next: (value) => this.next(value),
        error: (error: unknown) => this.end(errorOfRpc(error)),
        complete: () => this.end(null),
      });
      // It may have ended, or been too slow, before subscribe returned.
      if (this.done || this.ending !== undefined) subscription.unsubscribe();
      else this.subscription = subscription;
    } else if (isAsyncIterable(result)) {
      this.iterator = result[Symbol.asyncIterator]();
      this.pull();
    } else {
      this.held = { value: result };
      this.end(null);
    }
  }

  fail(error: unknown): void {
    this.end(errorOfRpc(error));
  }

  /** The caller has room again. */
  writable(): void {
    this.drain();
    if (this.done) return;
    while (this.waiting.length > 0 && this.ready) this.waiting.shift()!();
    this.pull();
  }

  /** Nobody wants it any more. Nothing is sent after this. */
  cancel(): void {
    if (this.done) return;
    this.stop();
  }

  private ending: TidelineError | null | undefined;

  private next(value: unknown): void {
    if (this.done || this.ending !== undefined) return;
    if (this.held === null) process.nextTick(() => this.releaseHeld());
    const before = this.held;
    this.held = { value };
    if (before !== null) this.enqueue(before.value, false);
  }

  private releaseHeld(): void {
    if (this.held === null || this.done) return;
    const { value } = this.held;
    this.held = null;
    this.enqueue(value, false);
  }

  private enqueue(value: unknown, last: boolean): void {
    if (this.done) return;
    let packet: Packet;
    try {
      packet = this.sink.encode(value, last);
    } catch (error) {
      const reason =
        error instanceof TidelineError
          ? error
          : new TidelineError('internal', 'the response cannot be written', { cause: error });
      return this.abort(reason);
    }
    if (this.queue.length === 0 && this.sink.writable) {
      this.sink.send(packet);
      if (last) this.stop();
      return;
    }
    this.queue.push(packet);
    this.queueLength += packet.length;
    if (last) this.lastQueued = true;
    else if (this.queueLength > this.queueLengthMax) {
      this.abort(
        new TidelineError('too-slow', 'the reader did not keep up and was dropped; resume from the last position'),
      );
    }
  }

  private lastQueued = false;

  private end(error: TidelineError | null): void {
    if (this.done || this.ending !== undefined) return;
    this.ending = error;
    this.subscription?.unsubscribe();
    if (this.held !== null) {
      const { value } = this.held;
      this.held = null;
      this.enqueue(value, error === null);
      if (error === null) return;
    }
    this.drain();
  }

  /** Ends at once: what waits is dropped, the reason is sent whether there is room or not. */
  private abort(error: TidelineError): void {
    if (this.done) return;
    this.queue.length = 0;
    this.sink.send(this.sink.encodeEnd(error));
    this.stop();
  }

  private drain(): void {
    while (!this.done && this.queue.length > 0 && this.sink.writable) {
      const packet = this.queue.shift()!;
      this.queueLength -= packet.length;
      this.sink.send(packet);
    }
    if (this.done || this.queue.length > 0 || this.ending === undefined) return;
    if (!this.lastQueued) this.sink.send(this.sink.encodeEnd(this.ending));
    this.stop();
  }

  private stop(): void {
    assert(!this.done, 'a response ends once');
    this.done = true;
    this.held = null;
    this.queue.length = 0;
    this.waiting.length = 0;
    this.subscription?.unsubscribe();
    // A generator that waits for something else hears of it when that comes; its own errors concern nobody any more.
    void this.iterator?.return?.()?.then(undefined, () => undefined);
    this.finished();
  }

  private pull(): void {
    if (this.iterator === null || this.pulling || !this.ready || this.ending !== undefined) return;
    this.pulling = true;
    this.iterator.next().then(
      (result) => {
        this.pulling = false;
        if (this.done) return;
        if (result.done === true) this.end(null);
        else {
          this.enqueue(result.value, false);
          this.pull();
        }
      },
      (error: unknown) => {
        this.pulling = false;
        this.fail(error);
      },
    );
  }
}
