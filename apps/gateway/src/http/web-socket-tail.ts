import { STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { TidelineError, type ErrorCode } from '#kernel';
import { toProblem } from '#platform';
import type { GatewayServices } from '../gateway-services.js';
import { recordToJson } from '../record-json.js';
import { RequestParameters } from '../request-parameters.js';
import { TAIL_PARAMETERS, tailRequestOf } from '../requests.js';
import { streamHeaders } from './stream-routes.js';
import { CloseCode, WebSocket, acceptKeyOf } from './web-socket.js';

const TAIL_PATH = /^\/v1\/topics\/([^/?#]+)\/tail\/?(?:\?(.*))?$/;

/**
 * Tails over WebSocket, at the path of the SSE ones and with the same parameters. Messages are `{"position": …, "record": {…}}`; the last one
 * before the server closes is `{"end": problem}`.
 */
export const serveWebSocketTails = (server: Server, services: GatewayServices): void => {
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => undefined);
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      withoutUpgrade(server, request, socket, head);
      return;
    }
    openTail(services, request, socket, head).catch((thrown: unknown) => refuse(socket, thrown));
  });
};

/**
 * Node hands over every request that asks for another protocol once there is a listener, HTTP/2 among them (Java's client always asks). Such a
 * request may be answered as if it had not asked (RFC 9110 §7.8): it is put back before the parser without the question.
 */
const withoutUpgrade = (server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void => {
  const { rawHeaders, method, url } = request;
  let text = `${method} ${url} HTTP/1.1\r\n`;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!/^(upgrade|connection|http2-settings)$/i.test(rawHeaders[i]))
      text += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
  }
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head]));
  server.emit('connection', socket);
};

const closeCodes: Partial<Record<ErrorCode, number>> = {
  'too-slow': CloseCode.TryAgainLater,
  'shutting-down': CloseCode.GoingAway,
};

/** Browsers let any page open a WebSocket to anywhere: one that comes from a page of another origin is refused (RFC 6455 §10.2). */
const assertOwnOrigin = ({ headers }: IncomingMessage): void => {
  const { origin, host } = headers;
  if (origin === undefined || (URL.canParse(origin) && new URL(origin).host === host)) return;
  throw new TidelineError('forbidden', `a page of ${origin.slice(0, 100)} may not open a WebSocket here`);
};

const openTail = async (
  services: GatewayServices,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> => {
  const path = TAIL_PATH.exec(request.url ?? '');
  if (!path) throw new TidelineError('not-found', 'no WebSocket is served here; tails are at /v1/topics/{topic}/tail');
  const acceptKey = acceptKeyOf(request);
  assertOwnOrigin(request);
  const topic = decodeURIComponent(path[1]);
  const query: Record<string, string | string[]> = {};
  for (const [name, value] of new URLSearchParams(path[2] ?? '')) {
    const before = query[name];
    query[name] = before === undefined ? value : [before, value].flat();
  }
  const asked = tailRequestOf(topic, new RequestParameters(query, TAIL_PARAMETERS));
  let webSocket: WebSocket | null = null;
  const end = (error: TidelineError | null): void => {
    release();
    tail.stop();
    if (error !== null) webSocket?.text(JSON.stringify({ end: toProblem(error, { write: false }).body }));
    webSocket?.close((error && closeCodes[error.code]) ?? CloseCode.Normal, error?.code ?? '');
  };
  const tail = services.tail(asked, {
    record: ({ partition, record }) => {
      const json = recordToJson(record, partition, services.isJson);
      return webSocket!.text(`{"position":"${tail.positionText}","record":${json}}`);
    },
    end,
  });
  const release = services.streams.add(end);
  try {
    await tail.start();
  } catch (error) {
    release();
    throw error;
  }
  const headers = streamHeaders(services, topic, tail.positionText);
  webSocket = new WebSocket(socket, head, acceptKey, headers, services.limits, services.time);
  webSocket.onRoom = () => tail.resume();
  webSocket.onClose = () => {
    release();
    tail.stop();
  };
  if (socket.destroyed) webSocket.onClose();
};

/** Before the protocols were switched: an HTTP answer like any other. */
const refuse = (socket: Duplex, thrown: unknown): void => {
  const error = thrown instanceof URIError ? new TidelineError('bad-request', 'the path is not valid UTF-8') : thrown;
  const { status, headers, body } = toProblem(error, { write: false });
  const text = JSON.stringify(body);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
};
