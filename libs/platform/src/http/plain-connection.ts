import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { assert } from '#kernel';
import { JOINED_BODY_BYTES_MAX, type DirectAnswers, type DirectReply, type DirectRequest } from './direct-answers.js';
import { readPlainHead, type PlainHead } from './plain-head.js';

/** Requests of one connection whose answers are not sent; those behind them wait unread. */
const ASKED_MAX = 32;
/** The same for the bytes of their bodies. */
const ASKED_BYTES_MAX = 1024 * 1024;

/** What a connection needs of the front it belongs to. */
export interface PlainConnectionHost {
  readonly direct: DirectAnswers;
  /** Counts seconds, more or less. */
  readonly tick: number;
  /** `Date`, `Connection` and `Keep-Alive` as Node's server writes them, and the empty line. */
  endOfHead(): string;
  /** Calls `flush` at the end of the turn. */
  flushLater(connection: PlainConnection): void;
  /** It answers nothing any more: closed, or given up. */
  forget(connection: PlainConnection): void;
  /** The socket is Node's server's from now on, with what it had not read. */
  handOver(socket: Socket, unread: Buffer | null): void;
  /** What is no request, or has not come in time, is answered as Node's server has it answered. */
  refuse(socket: Socket, code: 'HPE_INVALID_EOF_STATE' | 'ERR_HTTP_REQUEST_TIMEOUT'): void;
}

/**
 * One connection, as long as its requests are plain and have direct answers:
 *
 *     bytes ─► plain head? ─► direct? ─► body complete? ─► answered, in the order asked ─► one write at the end of the turn
 *                 │ no          │ no            └ no: waits for the rest
 *                 └─────────────┴─► once the answers before it are sent, Node's server has the socket for good, from the first byte of that request
 */
export class PlainConnection {
  /** Of a request that is not complete, from its first byte; or, halted, of all that was not looked at. */
  #unread: Buffer[] = [];
  #unreadBytes = 0;
  /** It makes no sense to look at the unread bytes before there are so many. */
  #neededBytes = 0;
  #oldest: PlainReply | null = null;
  #newest: PlainReply | null = null;
  /** Without answer. */
  #answering = 0;
  /** Without answer, or with one that waits for the next write. */
  #asked = 0;
  #askedBytes = 0;
  /** What goes out with the next write. */
  #text = '';
  #pieces: (string | Buffer)[] | null = null;
  #isFlushing = false;
  /** Too much is being answered, or the client does not take its answers. */
  #isHalted = false;
  #isLeaving = false;
  /** The client has said all that he will say. */
  #isEnded = false;
  #isClosing = false;
  #isOver = false;
  #hasAsked = false;
  /** The tick at which the state began that is limited in time: waiting for a request, or for the rest of one. */
  #since: number;

  constructor(
    private readonly socket: Socket,
    private readonly host: PlainConnectionHost,
  ) {
    this.#since = host.tick;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
    socket.on('drain', this.#onDrain);
  }

  /** Gives the connection to Node's server, as soon as the answers under way are sent. */
  leave(): void {
    if (this.#isOver || this.#isLeaving) return;
    this.#isLeaving = true;
    this.socket.pause();
    this.#goOn();
  }

  /** Ends the connection, as soon as the answers under way are sent. */
  close(): void {
    this.#isClosing = true;
    this.leave();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Ends what has lasted longer than it may, in ticks. */
  checkTime(limits: { readonly requestTicks: number; readonly keepAliveTicks: number }): void {
    const lasted = this.host.tick - this.#since;
    if (this.#isOver) {
      if (lasted > limits.requestTicks) this.destroy();
      return;
    }
    // How long an answer may take is for the one who gives it to say; how slowly it may be read, nobody says.
    if (this.#answering > 0 || this.#isFlushing || this.socket.writableLength > 0) return;
    if (this.#unreadBytes > 0 || !this.#hasAsked) {
      if (lasted > limits.requestTicks) this.#refuse('ERR_HTTP_REQUEST_TIMEOUT');
    } else if (lasted > limits.keepAliveTicks) {
      this.destroy();
    }
  }

  /** Called by the host at the end of a turn in which there were answers. */
  flush(): void {
    this.#isFlushing = false;
    if (this.#isOver) return;
    const { socket } = this;
    if (this.#pieces === null) {
      socket.write(this.#text, 'latin1');
    } else {
      socket.cork();
      for (const piece of this.#pieces) socket.write(piece, 'latin1');
      if (this.#text !== '') socket.write(this.#text, 'latin1');
      socket.uncork();
      this.#pieces = null;
    }
    this.#text = '';
    this.#asked = this.#answering;
    if (this.#answering === 0) this.#askedBytes = 0;
    if (this.#unreadBytes === 0) this.#since = this.host.tick;
    this.#goOn();
  }

  /** @internal for PlainReply */
  replied(): void {
    if (this.#isOver) return;
    let reply = this.#oldest;
    while (reply !== null && reply.isSent) {
      this.#answering--;
      this.#text += reply.text;
      if (reply.body !== null) {
        (this.#pieces ??= []).push(this.#text, reply.body);
        this.#text = '';
      }
      reply = reply.next;
      if (!this.#isFlushing) {
        this.#isFlushing = true;
        this.host.flushLater(this);
      }
    }
    this.#oldest = reply;
    if (reply === null) this.#newest = null;
  }

  /** @internal for PlainReply */
  endOfHead(): string {
    return this.host.endOfHead();
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#isOver) return;
    if (this.#unreadBytes === 0 && !this.#isHalted && !this.#isLeaving) {
      this.#read(chunk);
      return;
    }
    this.#unread.push(chunk);
    this.#unreadBytes += chunk.length;
    if (!this.#isHalted && !this.#isLeaving && this.#unreadBytes >= this.#neededBytes) this.#read(this.#takeUnread());
  };

  #takeUnread(): Buffer {
    const bytes = this.#unread.length === 1 ? this.#unread[0] : Buffer.concat(this.#unread);
    this.#unread = [];
    this.#unreadBytes = 0;
    return bytes;
  }

  /** `needed`: how many bytes there must be before they are looked at again. */
  #keep(bytes: Buffer, needed: number): void {
    this.#unread.push(bytes);
    this.#unreadBytes = bytes.length;
    this.#neededBytes = needed;
  }

  /** Takes complete requests, as many as there are. */
  #read(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#asked >= ASKED_MAX || this.#askedBytes >= ASKED_BYTES_MAX || this.socket.writableNeedDrain) {
        this.#keep(bytes.subarray(at), 0);
        this.#isHalted = true;
        this.socket.pause();
        return;
      }
      const head = readPlainHead(bytes, at);
      if (head === 'incomplete') {
        this.#wait(at === 0 ? bytes : bytes.subarray(at), bytes.length - at + 1);
        return;
      }
      const request = head === 'not-plain' ? null : this.host.direct.find(head, head.contentLength);
      if (head === 'not-plain' || request === null) {
        this.#keep(bytes.subarray(at), 0);
        this.leave();
        return;
      }
      const end = head.bodyStart + (head.contentLength ?? 0);
      if (end > bytes.length) {
        this.#wait(at === 0 ? bytes : bytes.subarray(at), end - at);
        return;
      }
      this.#answer(request, head, bytes.subarray(head.bodyStart, end));
      at = end;
    }
  }

  #wait(bytes: Buffer, needed: number): void {
    // The time of a request runs from its first byte, however many pieces it comes in; that of the first one from the start.
    if (this.#neededBytes === 0 && this.#hasAsked) this.#since = this.host.tick;
    this.#keep(bytes, needed);
  }

  #answer({ answer, asked }: DirectRequest, head: PlainHead, body: Buffer): void {
    const reply = new PlainReply(this);
    if (this.#newest === null) this.#oldest = reply;
    else this.#newest.next = reply;
    this.#newest = reply;
    this.#answering++;
    this.#asked++;
    this.#askedBytes += body.length;
    this.#hasAsked = true;
    this.#neededBytes = 0;
    answer.answer(asked, head, body, reply);
  }

  /** What was waiting for answers to be sent. */
  #goOn(): void {
    if (this.#isOver || this.#answering > 0 || this.#isFlushing) return;
    if (this.#isLeaving) {
      // Answers that the client has yet to take are not left to a server that may close any moment.
      if (!this.socket.writableNeedDrain) this.#depart();
    } else if (this.#isHalted) {
      if (this.socket.writableNeedDrain) return;
      this.#isHalted = false;
      this.#read(this.#takeUnread());
      if (!this.#isHalted && !this.#isLeaving) this.socket.resume();
      this.#goOn();
    } else if (this.#isEnded) {
      // Bytes that are no whole request are none.
      if (this.#unreadBytes > 0) this.#refuse('HPE_INVALID_EOF_STATE');
      else this.#finish();
    } else if (this.socket.writableNeedDrain) {
      this.#isHalted = true;
      this.socket.pause();
    }
  }

  #depart(): void {
    const { socket } = this;
    // A client that has ended his side is told no more than the answers before.
    if (this.#isClosing || this.#isEnded || socket.destroyed) {
      this.#finish();
      return;
    }
    this.#isOver = true;
    this.host.forget(this);
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onError);
    socket.off('close', this.#onClose);
    socket.off('drain', this.#onDrain);
    this.host.handOver(socket, this.#unreadBytes > 0 ? this.#takeUnread() : null);
  }

  #refuse(code: 'HPE_INVALID_EOF_STATE' | 'ERR_HTTP_REQUEST_TIMEOUT'): void {
    this.host.refuse(this.socket, code);
    this.#finish();
  }

  /** What was written goes out, then the connection ends. What still comes goes nowhere; unread, it would turn the end into a reset. */
  #finish(): void {
    this.#isOver = true;
    this.#unread = [];
    this.#since = this.host.tick;
    this.socket.resume();
    this.socket.destroySoon();
  }

  readonly #onEnd = (): void => {
    this.#isEnded = true;
    this.#goOn();
  };

  readonly #onDrain = (): void => {
    if (this.#unreadBytes === 0) this.#since = this.host.tick;
    this.#goOn();
  };

  /** `close` follows. */
  readonly #onError = (): void => undefined;

  readonly #onClose = (): void => {
    this.#isOver = true;
    this.#unread = [];
    this.#oldest = null;
    this.#newest = null;
    this.host.forget(this);
  };
}

const STATUS_LINES: readonly string[] = Array.from(
  { length: 600 },
  (_, status) => `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'unknown'}\r\n`,
);

/** The answer to one request, in the row of those of its connection. */
class PlainReply implements DirectReply {
  next: PlainReply | null = null;
  isSent = false;
  /** Head, and body where that is small: one byte a character. */
  text = '';
  /** A body that goes out as it is. */
  body: Buffer | null = null;

  constructor(private readonly connection: PlainConnection) {}

  send(status: number, headers: readonly string[], body: Buffer | string | null): void {
    assert(!this.isSent, 'a request has one answer');
    this.isSent = true;
    let text = STATUS_LINES[status];
    for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
    if (body === null) {
      this.text = text + this.connection.endOfHead();
    } else if (typeof body === 'string' && Buffer.byteLength(body) === body.length) {
      this.text = `${text}content-length: ${body.length}\r\n${this.connection.endOfHead()}${body}`;
    } else {
      const bytes = typeof body === 'string' ? Buffer.from(body) : body;
      this.text = `${text}content-length: ${bytes.length}\r\n${this.connection.endOfHead()}`;
      if (bytes.length > JOINED_BODY_BYTES_MAX) this.body = bytes;
      else this.text += bytes.toString('latin1');
    }
    this.connection.replied();
  }
}
