import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { assert, eventLoopTurn } from '#kernel';
import type { PlainHeaders } from './plain-head.js';

/** What a direct answer sees of a request before its body: Node's own request is one, and a plain head. */
export interface DirectHead {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: Readonly<PlainHeaders> | Readonly<Record<keyof PlainHeaders, string | undefined>>;
}

/** Where the answer goes. Once. */
export interface DirectReply {
  readonly isSent: boolean;
  /** `headers`: names and values in turn, all of them fit for a header. The body's length is added. null: no body, not even an empty one. */
  send(status: number, headers: readonly string[], body: Buffer | string | null): void;
}

/** Answers requests before Fastify sees them, those that it says are its own. */
export interface DirectAnswer<Asked = unknown> {
  readonly method: 'GET' | 'PUT';
  /** null: the request must have no body. Otherwise it must have one, be it empty, of so many bytes at most, and say how long it is. */
  readonly bodyBytesMax: number | null;
  /** What the head asks for; null: Fastify goes on with it. Changes nothing, and may be asked again. */
  asked(head: DirectHead): Asked | null;
  answer(asked: Asked, head: DirectHead, body: Buffer, reply: DirectReply): void;
}

/** A request that has its answerer. */
export interface DirectRequest {
  readonly answer: DirectAnswer;
  readonly asked: unknown;
}

const DIRECT_ANSWERS = 'directAnswers';
const NO_BODY = Buffer.alloc(0);
/** A body up to this size goes out with its head as one string: one system call, one copy. */
export const JOINED_BODY_BYTES_MAX = 8 * 1024;

/**
 * The few requests that come so often that routing, hooks and reply objects are a good part of what they cost. A path that is not plain, or that
 * asks for anything unusual, stays with Fastify, which can answer all of them. Who sees the request first hands it over: the plain front of a
 * connection (http-front.ts), or, where that has given the connection up, Node's server.
 */
export class DirectAnswers {
  readonly #answers: DirectAnswer[] = [];
  #isOpen = true;

  /** Steps between the server and Fastify. */
  private constructor(server: Server) {
    const listeners = server.listeners('request') as RequestListener[];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const length = request.headers['content-length'];
      const direct =
        request.headers['transfer-encoding'] === undefined
          ? this.find(request as DirectHead, length === undefined ? null : Number(length))
          : null;
      if (direct === null) for (const listener of listeners) listener(request, response);
      else answerOnNode(direct, request, response);
    });
  }

  /** The direct answers of a server made by `createHttpEdge`; null for another's. */
  static of(fastify: FastifyInstance): DirectAnswers | null {
    return fastify.hasDecorator(DIRECT_ANSWERS)
      ? (fastify as unknown as Record<typeof DIRECT_ANSWERS, DirectAnswers>)[DIRECT_ANSWERS]
      : null;
  }

  static install(fastify: FastifyInstance): DirectAnswers {
    const direct = new DirectAnswers(fastify.server);
    fastify.decorate(DIRECT_ANSWERS, { getter: () => direct });
    return direct;
  }

  add<Asked>(answer: DirectAnswer<Asked>): void {
    this.#answers.push(answer as DirectAnswer);
  }

  /** Who answers; null: Fastify. `contentLength` null: the request has none. */
  find(head: DirectHead, contentLength: number | null): DirectRequest | null {
    if (!this.#isOpen) return null;
    for (let i = 0; i < this.#answers.length; i++) {
      const answer = this.#answers[i];
      if (answer.method !== head.method) continue;
      const { bodyBytesMax } = answer;
      if (bodyBytesMax === null ? contentLength !== null : contentLength === null || !(contentLength <= bodyBytesMax)) {
        continue;
      }
      const asked = answer.asked(head);
      if (asked !== null) return { answer, asked };
    }
    return null;
  }

  /** Fastify answers everything from now on. */
  stop(): void {
    this.#isOpen = false;
  }
}

const answerOnNode = (direct: DirectRequest, request: IncomingMessage, response: ServerResponse): void => {
  const { answer, asked } = direct;
  const reply = new NodeReply(response);
  if (answer.bodyBytesMax === null) {
    answer.answer(asked, request as DirectHead, NO_BODY, reply);
    return;
  }
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  // A client that goes away before has not asked for anything.
  request.on('end', () => {
    answer.answer(asked, request as DirectHead, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), reply);
  });
};

/** Answers of one turn leave at its end, together: a write to a socket wakes who waits there, and takes the core from who would write the next. */
class NodeReply implements DirectReply {
  isSent = false;

  constructor(private readonly response: ServerResponse) {}

  send(status: number, headers: readonly string[], body: Buffer | string | null): void {
    assert(!this.isSent, 'a request has one answer');
    this.isSent = true;
    eventLoopTurn.atEnd(() => this.#write(status, headers, body));
  }

  #write(status: number, headers: readonly string[], body: Buffer | string | null): void {
    const { response } = this;
    if (body === null) {
      response.writeHead(status, [...headers]).end();
      return;
    }
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    response.writeHead(status, [...headers, 'content-length', String(length)]);
    if (typeof body === 'string' || length > JOINED_BODY_BYTES_MAX) response.end(body);
    else response.end(body.toString('latin1'), 'latin1');
  }
}
