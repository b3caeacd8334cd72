import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';

/** Looks at a request before Fastify does. True: it answers it. False: it has not touched it, and Fastify goes on with it. */
export type DirectAnswer = (request: IncomingMessage, response: ServerResponse) => boolean;

const DIRECT_ANSWERS = 'directAnswers';

/**
 * The few requests that come so often that routing, hooks and reply objects are a good part of what they cost are answered on Node's own request
 * and response. A path that is not plain, or that asks for anything unusual, stays with Fastify, which can answer all of them.
 */
export class DirectAnswers {
  readonly #answers: DirectAnswer[] = [];
  #isOpen = true;

  /** Steps between the server and Fastify. */
  private constructor(server: Server) {
    const listeners = server.listeners('request') as RequestListener[];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (this.#isOpen) for (const answer of this.#answers) if (answer(request, response)) return;
      for (const listener of listeners) listener(request, response);
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

  add(answer: DirectAnswer): void {
    this.#answers.push(answer);
  }

  /** Fastify answers everything from now on. */
  stop(): void {
    this.#isOpen = false;
  }
}
