import { randomBelow, randomChance, type Clock, type Rng, type Scheduler } from '#kernel';
import { FrameType, encodeBatch, encodeFrame, encodeHello, gatewayServiceV1 } from '#wire';
import type { GatewayServices } from '../../apps/gateway/src/gateway-services.js';
import { serveGateway } from '../../apps/gateway/src/native/native-service.js';
import { DeadlineWheel, FramedConnection, withDefaults, type ByteLink } from '../../libs/net/src/testing/index.js';
import { EVENTS } from './place.js';

const HELLO = { nodeId: 0, clusterId: '', service: 'gateway', software: 'rude', addresses: {} };
const FRAME_BYTES_MAX = 64 * 1024;

const frame = (type: FrameType, method: number, payload: Buffer): Buffer =>
  encodeFrame({ type, method, id: type === FrameType.Hello ? 0 : 1, argument: 0 }, payload);

const noise = (rng: Rng, length: number): Buffer => Buffer.from(Array.from({ length }, () => randomBelow(rng, 256)));

/** What somebody sends who does not speak the protocol, or means harm: never what a client of this product would. */
const bytesOf = (rng: Rng): Buffer => {
  const hello = frame(FrameType.Hello, 0, encodeHello(HELLO));
  const batch = encodeBatch([{ value: Buffer.from('rude') }], { createTime: 0 });
  const request = gatewayServiceV1.append.encodeRequest({
    topic: EVENTS,
    partition: 0,
    batch,
    acks: 'quorum',
    timeoutMs: 1000,
  });
  const append = Buffer.isBuffer(request) ? request : Buffer.concat(request as readonly Uint8Array[]);
  const asked = frame(FrameType.Request, gatewayServiceV1.append.method, append);
  const flipped = (bytes: Buffer): Buffer => {
    const copy = Buffer.from(bytes);
    copy[randomBelow(rng, copy.length)] ^= 1 << randomBelow(rng, 8);
    return copy;
  };
  switch (randomBelow(rng, 8)) {
    case 0:
      return noise(rng, 1 + randomBelow(rng, 200));
    case 1:
      return Buffer.concat([hello, noise(rng, 1 + randomBelow(rng, 200))]);
    case 2: {
      // Declares more than is allowed, or than will ever come.
      const header = Buffer.from(asked.subarray(0, 16));
      header.writeUInt32LE(randomChance(rng, 0.5) ? 0xffff_ffff : FRAME_BYTES_MAX + randomBelow(rng, 1000), 0);
      return Buffer.concat([hello, header, noise(rng, 40)]);
    }
    case 3:
      return Buffer.concat([hello, flipped(asked)]);
    case 4:
      return Buffer.concat([hello, asked.subarray(0, randomBelow(rng, asked.length))]);
    case 5:
      return Buffer.concat([hello, frame(FrameType.Request, randomBelow(rng, 40), noise(rng, randomBelow(rng, 60)))]);
    case 6:
      return Buffer.concat([
        hello,
        frame(FrameType.StreamOpen, randomBelow(rng, 40), noise(rng, randomBelow(rng, 60))),
        asked,
      ]);
    default:
      return Buffer.concat([flipped(hello), asked]);
  }
};

/** Talks to the native service of a gateway and hangs up. The process must not mind: what escapes from here ends the run. */
export const talkRudely = (
  gateway: GatewayServices,
  time: { readonly clock: Clock; readonly scheduler: Scheduler },
  rng: Rng,
): void => {
  let closed = false;
  const link: ByteLink = {
    remoteAddress: 'rude',
    pendingBytes: 0,
    send: () => time.scheduler.defer(() => !closed && connection.handedOn(false)),
    pauseReading: () => undefined,
    resumeReading: () => undefined,
    end: () => (closed = true),
    destroy: () => (closed = true),
  };
  const connection = new FramedConnection({
    id: 1,
    link,
    role: 'accepting',
    hello: { ...HELLO, software: 'tideline' },
    handler: serveGateway(gateway),
    limits: withDefaults({ frameBytesMax: FRAME_BYTES_MAX }),
    environment: {
      ...time,
      wheel: new DeadlineWheel(time.clock, time.scheduler),
      flushLater: (flush) => time.scheduler.defer(flush),
    },
  });
  const bytes = bytesOf(rng);
  const feed = (at: number): void => {
    if (closed) return;
    if (at >= bytes.length) {
      time.scheduler.after(randomBelow(rng, 500), () => {
        if (closed) return;
        closed = true;
        connection.closed(null);
      });
      return;
    }
    const end = Math.min(bytes.length, at + 1 + randomBelow(rng, 100));
    connection.data(Buffer.from(bytes.subarray(at, end)));
    time.scheduler.after(randomBelow(rng, 5), () => feed(end));
  };
  time.scheduler.defer(() => feed(0));
};
