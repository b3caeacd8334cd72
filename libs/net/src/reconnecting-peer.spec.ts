import { describe, expect, test } from '@jest/globals';
import { SeededRng, type TidelineError } from '#kernel';
import type { Connection, ConnectionHandler, Hello, Listener } from './connection.js';
import { ReconnectingPeer, type ReconnectingPeerOptions } from './reconnecting-peer.js';
import { MemoryNetwork, VirtualTime } from './testing/index.js';

const hello: Hello = { nodeId: 0, clusterId: '', service: '', software: 'spec', addresses: {} };

const setup = (options: Partial<ReconnectingPeerOptions> = {}) => {
  const time = new VirtualTime();
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(3) });
  const posts: string[] = [];
  const handler: ConnectionHandler = {
    request: (_method, payload, responder) => responder.ok(payload),
    stream: (_method, _payload, producer) => producer.end(null),
    post: (_method, payload) => posts.push(payload.toString()),
  };
  const listen = (port: number): Promise<Listener> =>
    network.transport('b').listen({ host: 'b', port }, hello, handler);
  const opened: Connection[] = [];
  const closed: (TidelineError | null)[] = [];
  const refused: number[] = [];
  const peer = new ReconnectingPeer({
    transport: network.transport('a'),
    address: 'b:1',
    hello,
    scheduler: time,
    rng: new SeededRng(4),
    onOpen: (connection) => opened.push(connection),
    onClose: (error) => closed.push(error),
    onRefused: () => refused.push(time.monotonicMs()),
    ...options,
  });
  return { time, network, listen, posts, opened, closed, refused, peer };
};

describe('reconnecting peer', () => {
  test('connects, and again after the connection has gone', async () => {
    const { time, network, listen, opened, closed, peer, posts } = setup();
    await listen(1);
    time.advance(10);
    expect(opened.length).toBe(1);
    expect(peer.connection).toBe(opened[0]);
    network.reset('a', 'b');
    time.advance(1);
    expect(closed.map((error) => error?.code)).toEqual(['connection-lost']);
    expect(peer.connection).toBeNull();
    time.advance(200);
    expect(opened.length).toBe(2);
    expect(peer.post(1, Buffer.from('hi'))).toBe(true);
    time.advance(10);
    expect(posts).toEqual(['hi']);
    peer.close();
  });

  test('tries less and less often, never less than the maximum wait, never in step', () => {
    const { time, refused, peer } = setup({ backoffMsMin: 100, backoffMsMax: 1000 });
    time.advance(60_000);
    const waits = refused.slice(1).map((at, i) => at - refused[i]);
    expect(waits[0]).toBeLessThanOrEqual(110);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1010);
    expect(Math.min(...waits.slice(6))).toBeGreaterThanOrEqual(500);
    expect(new Set(waits.slice(6)).size).toBeGreaterThan(10);
    peer.close();
  });

  test('without a connection everything fails at once and says nothing was sent', () => {
    const { time, peer } = setup();
    expect(peer.post(1, Buffer.from('x'))).toBe(false);
    const ends: (TidelineError | null)[] = [];
    peer.request(1, Buffer.from('x'), { timeoutMs: 1000 }, (error) => ends.push(error));
    peer.openStream(1, Buffer.from('x'), { creditBytes: 1 }, { item: () => 0, end: (error) => ends.push(error) });
    peer
      .openStream(1, Buffer.from('x'), { creditBytes: 1 }, { item: () => 0, end: (error) => ends.push(error) })
      .cancel();
    expect(ends).toEqual([]);
    time.advance(0);
    expect(ends.map((error) => [error?.code, error?.outcome])).toEqual([
      ['connection-lost', 'rejected'],
      ['connection-lost', 'rejected'],
    ]);
    peer.close();
  });

  test('goes to another address when told, at once', async () => {
    const { time, listen, opened, closed, peer } = setup();
    const first = await listen(1);
    const second = await listen(2);
    time.advance(10);
    peer.redirect('b:2');
    time.advance(10);
    expect(opened.length).toBe(2);
    expect(closed).toEqual([null]);
    expect([first.connections, second.connections]).toEqual([0, 1]);
    expect(peer.connection).toBe(opened[1]);
    time.advance(5000);
    expect(opened.length).toBe(2);
    peer.close();
  });

  test('closed, it does not come back', async () => {
    const { time, listen, opened, peer } = setup();
    const listener = await listen(1);
    time.advance(10);
    peer.close();
    time.advance(10_000);
    expect(opened.length).toBe(1);
    expect(listener.connections).toBe(0);
    const other = setup();
    other.peer.close();
    await other.listen(1);
    other.time.advance(10_000);
    expect(other.opened.length).toBe(0);
  });
});
