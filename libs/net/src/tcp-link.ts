import type { Socket } from 'node:net';
import { afterRunning, type Scheduler } from '#kernel';
import { formatAddress } from './address.js';
import type { ByteLink, ByteLinkEvents } from './byte-link.js';
import { CLOSE_GRACE_MS } from './net-limits.js';
import type { SocketReader, SocketSink } from './socket-reader.js';

/** One write to the kernel takes at most this much, so that progress can be seen inside a long queue. */
const WRITE_BYTES_MAX = 1024 * 1024;

/** A byte link over a connected socket. Its own queue instead of the stream's: one writev at a time, an exact count of what waits. */
export class TcpLink implements ByteLink {
  readonly remoteAddress: string;
  private pending = 0;
  private queue: Uint8Array[] = [];
  /** Bytes of the write under way; 0 between writes. */
  private writing = 0;
  private waited = false;
  private ending = false;
  private finished = false;

  constructor(
    private readonly socket: Socket,
    reader: SocketReader,
    private readonly scheduler: Scheduler,
    private readonly events: ByteLinkEvents,
  ) {
    this.remoteAddress = formatAddress({ host: socket.remoteAddress ?? 'unknown', port: socket.remotePort ?? 0 });
    let cause: Error | null = null;
    const sink: SocketSink = {
      data: (chunk) => {
        if (!this.finished) this.events.data(chunk);
      },
      room: () => (this.finished ? null : this.events.room),
      filled: (count) => {
        if (!this.finished) this.events.filled(count);
      },
    };
    reader.begin(sink);
    // Of a socket that could not be given the reader.
    socket.on('data', sink.data);
    socket.on('error', (error) => {
      cause = error;
    });
    const closed = (): void => {
      if (this.finished) return;
      this.finished = true;
      socket.destroy();
      this.events.closed(cause);
    };
    socket.on('end', closed);
    socket.on('close', closed);
  }

  get pendingBytes(): number {
    return this.pending;
  }

  send(pieces: readonly Uint8Array[]): void {
    if (this.finished) return;
    for (const piece of pieces) {
      this.pending += piece.length;
      if (piece.length <= WRITE_BYTES_MAX) this.queue.push(piece);
      else {
        for (let at = 0; at < piece.length; at += WRITE_BYTES_MAX) {
          this.queue.push(piece.subarray(at, at + WRITE_BYTES_MAX));
        }
      }
    }
    if (this.writing === 0) this.writeNext();
  }

  private writeNext(): void {
    const { queue, socket } = this;
    let bytes = queue[0].length;
    let count = 1;
    while (count < queue.length && bytes + queue[count].length <= WRITE_BYTES_MAX) bytes += queue[count++].length;
    const pieces = queue.splice(0, count);
    this.writing = bytes;
    this.waited = false;
    if (count === 1) {
      socket.write(pieces[0], this.written);
    } else {
      socket.cork();
      const last = count - 1;
      for (let i = 0; i < last; i++) socket.write(pieces[i]);
      socket.write(pieces[last], this.written);
      socket.uncork();
    }
    // A write that the kernel took at once is reported before this runs; one that had to wait, after it.
    process.nextTick(this.markWaited);
  }

  private readonly markWaited = (): void => {
    if (this.writing > 0) this.waited = true;
  };

  private readonly written = (error?: Error | null): void => {
    if (error) return; // 'close' follows
    const { waited } = this;
    this.pending -= this.writing;
    this.writing = 0;
    if (this.queue.length > 0) this.writeNext();
    else if (this.ending) this.socket.end();
    if (!this.finished) this.events.handedOn(waited);
  };

  pauseReading(): void {
    this.socket.pause();
  }

  resumeReading(): void {
    this.socket.resume();
  }

  end(): void {
    if (this.finished) return;
    this.finished = true;
    this.ending = true;
    // Unread bytes at close would make the kernel reset the connection and lose what was just sent: read on, to nowhere.
    this.socket.resume();
    if (this.writing === 0) this.socket.end();
    const giveUp = afterRunning(this.scheduler, CLOSE_GRACE_MS, () => this.socket.destroy());
    this.socket.once('close', giveUp);
  }

  destroy(): void {
    this.finished = true;
    this.socket.destroy();
  }
}
