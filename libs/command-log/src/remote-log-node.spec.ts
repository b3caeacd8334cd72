import { describe, expect, test } from '@jest/globals';
import { NO_NODE, SeededRng, TidelineError, asGroupId, asOffset, systemClock, systemScheduler } from '#kernel';
import { tcpTransport, type Listener, type Transport } from '#net';
import { encodeBatch } from '#wire';
import { MemoryNetwork } from '../../net/src/testing/index.js';
import type { TailChunk, Target } from './command-log.js';
import { serveLogNode } from './log-node-server.js';
import { RemoteLogNodeDirectory } from './remote-log-node-directory.js';
import { RemoteLogNode } from './remote-log-node.js';
import { RoutingCommandLog } from './routing-command-log.js';
import { commandLogConformance, type CommandLogHarness } from './testing/command-log.conformance.js';
import { MemoryLogCluster, VirtualTime } from './testing/index.js';

const HELLO = { nodeId: 0, clusterId: 'memory', software: 'test', addresses: {} };

const serve = (cluster: MemoryLogCluster, transportOf: (machine: string) => Transport): Promise<Listener[]> =>
  Promise.all(
    cluster.nodes.map(async (node) => {
      const hello = { ...HELLO, nodeId: node.id, service: 'log' };
      const listener = await transportOf(`node-${node.id}`).listen(
        { host: '127.0.0.1', port: 0 },
        hello,
        serveLogNode(node),
      );
      node.addresses['log'] = listener.address;
      return listener;
    }),
  );

const overTransport = async (transportOf: (machine: string) => Transport): Promise<CommandLogHarness> => {
  const cluster = new MemoryLogCluster({ nodes: 3, topics: [{ name: 'orders', partitions: 2 }] });
  const listeners = await serve(cluster, transportOf);
  const log = new RoutingCommandLog({
    directory: new RemoteLogNodeDirectory({
      transport: transportOf('gateway'),
      hello: HELLO,
      seeds: [listeners[1].address],
    }),
    rng: new SeededRng(3),
  });
  return {
    log,
    trim: async (target: Target, offset) => cluster.log(target.topic, target.partition).trimBefore(offset),
    expireSessions: async (target: Target) => cluster.log(target.topic, target.partition).expireSessions(),
    close: async () => {
      await log.close();
      await Promise.all(listeners.map((listener) => listener.close()));
    },
  };
};

commandLogConformance('RoutingCommandLog over TCP', () => overTransport(() => tcpTransport));

commandLogConformance('RoutingCommandLog over a network in memory', () => {
  const network = new MemoryNetwork({ clock: systemClock, scheduler: systemScheduler, rng: new SeededRng(4) });
  return overTransport((machine) => network.transport(machine));
});

describe('a log node behind a connection', () => {
  const setUp = async () => {
    const time = new VirtualTime();
    const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(5) });
    const cluster = new MemoryLogCluster({ topics: [{ name: 'orders' }], clock: time, scheduler: time });
    const [listener] = await serve(cluster, (machine) => network.transport(machine));
    const remote = new RemoteLogNode({
      transport: network.transport('gateway'),
      address: listener.address,
      hello: { ...HELLO, service: 'log' },
      id: NO_NODE,
    });
    return { time, network, cluster, node: cluster.nodes[0], remote, listener };
  };
  const batchOf = (value: string): Buffer => encodeBatch([{ value: Buffer.from(value) }], { createTime: 0 });
  const GROUP = asGroupId(1);

  test('tells who it is from the first answer on', async () => {
    const { time, remote } = await setUp();
    expect(remote.id).toBe(NO_NODE);
    await time.until(remote.describe());
    expect(remote.id).toBe(1);
  });

  test('an error arrives with its code, outcome and leader hint', async () => {
    const { time, cluster, remote } = await setUp();
    cluster.log('orders').leader = NO_NODE;
    const error = await time.until(remote.append(GROUP, batchOf('a'), { acks: 'quorum' }).catch((thrown) => thrown));
    expect(error).toBeInstanceOf(TidelineError);
    expect(error).toMatchObject({ code: 'not-leader', outcome: 'rejected', details: { leader: 0 } });
  });

  test('nobody there is a rejection: nothing was sent', async () => {
    const { time, network, remote } = await setUp();
    network.crash('node-1');
    const error = await time.until(remote.append(GROUP, batchOf('a'), { acks: 'quorum' }).catch((thrown) => thrown));
    expect(error).toMatchObject({ code: 'connection-lost', outcome: 'rejected' });
  });

  test('a connection that breaks before the answer is an unknown outcome, and the next call connects again', async () => {
    const { time, network, cluster, remote } = await setUp();
    await time.until(remote.describe());
    cluster.log('orders').commitLimit = 1;
    const pending = remote.append(GROUP, batchOf('a'), { acks: 'quorum' }).catch((thrown: unknown) => thrown);
    await time.advance(10);
    network.reset('gateway', 'node-1');
    expect(await time.until(pending)).toMatchObject({ code: 'connection-lost', outcome: 'unknown' });
    cluster.log('orders').commitLimit = Number.POSITIVE_INFINITY;
    await time.until(remote.append(GROUP, batchOf('b'), { acks: 'quorum' }));
  });

  test('unsubscribing from a tail stops the work on the server', async () => {
    const { time, cluster, remote, node } = await setUp();
    const chunks: TailChunk[] = [];
    const subscription = remote.tail(GROUP, asOffset(1), { creditBytes: 1_000_000 }).subscribe((chunk) => {
      chunks.push(chunk);
      chunk.release();
    });
    await time.advance(100);
    expect(chunks).toHaveLength(1);
    expect(node.openTails).toBe(1);
    subscription.unsubscribe();
    await time.advance(100);
    expect(node.openTails).toBe(0);
    cluster.log('orders').append(batchOf('a'));
    await time.advance(100);
    expect(chunks).toHaveLength(1);
  });

  test('a reader without credit makes the server stop reading the log', async () => {
    const { time, cluster, remote, node } = await setUp();
    for (let i = 0; i < 200; i++) cluster.log('orders').append(batchOf('x'.repeat(10_000)));
    const chunks: TailChunk[] = [];
    const subscription = remote.tail(GROUP, asOffset(1), { creditBytes: 10_000 }).subscribe((chunk) => {
      chunks.push(chunk);
    });
    await time.advance(1_000);
    expect(chunks).toHaveLength(1);
    expect(node.bytesRead).toBeLessThan(600_000);
    for (let i = 0; i < 60 && chunks.at(-1)!.nextOffset <= 201; i++) {
      chunks.at(-1)!.release();
      await time.advance(50);
    }
    expect(chunks.at(-1)!.nextOffset).toBe(202);
    subscription.unsubscribe();
  });

  test('a method the service does not have is refused and nothing else is disturbed', async () => {
    const { time, network, listener } = await setUp();
    const connecting = network
      .transport('stranger')
      .connect(listener.address, { ...HELLO, clusterId: '', service: 'log' }, null);
    const connection = await time.until(connecting);
    const asked = new Promise((resolve) => {
      connection.request(0x7777, Buffer.alloc(0), { timeoutMs: 1_000 }, resolve);
    });
    expect(await time.until(asked)).toMatchObject({ code: 'unsupported-version' });
    const garbage = new Promise((resolve) => {
      connection.request(0x0202, Buffer.from('no'), { timeoutMs: 1_000 }, resolve);
    });
    expect(await time.until(garbage)).toMatchObject({ code: 'malformed-frame' });
    expect(connection.isOpen).toBe(true);
  });
});
