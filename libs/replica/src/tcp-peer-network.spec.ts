import { describe, expect, test } from '@jest/globals';
import { SeededRng, TidelineError, asGroupId, asNodeId, systemClock, systemScheduler, type NodeId } from '#kernel';
import { tcpTransport, type Transport } from '#net';
import { openPartitionLog } from '#storage';
import { MemoryFileSystem } from '../../storage/src/testing/index.js';
import { ReplicaNode } from './replica-node.js';
import { TcpPeerNetwork, type PeerAddress, type TcpPeerNetworkOptions } from './tcp-peer-network.js';
import { textBatch } from './testing/replica-cluster.js';

const ids = [1, 2, 3].map(asNodeId);

interface Running {
  readonly id: NodeId;
  readonly node: ReplicaNode;
  readonly network: TcpPeerNetwork;
  readonly hellos: number[];
}

/** A turn of the event loop. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await turn();
};

const startNode = async (id: NodeId, transport: Transport): Promise<Running & { readonly address: PeerAddress }> => {
  const hellos: number[] = [];
  const network = new TcpPeerNetwork({
    transport,
    scheduler: systemScheduler,
    rng: new SeededRng(id),
    hello: { nodeId: id, clusterId: 'spec', software: 'spec', addresses: {} },
    peers: [],
    onHello: (hello) => hellos.push(hello.nodeId),
  });
  const fs = new MemoryFileSystem();
  const node = new ReplicaNode({
    nodeId: id,
    clock: systemClock,
    scheduler: systemScheduler,
    rng: new SeededRng(100 + id),
    network,
    openLog: (group, directory) => openPartitionLog({ fs, directory, group }),
    onFatal: (_group, error) => {
      throw error;
    },
    electionTimeoutMs: 200,
    heartbeatMs: 50,
    tickMs: 10,
  });
  const listener = await network.start({ host: '127.0.0.1', port: 0 }, node);
  node.openGroup({ group: asGroupId(1), directory: 'group', bootstrapVoters: ids });
  return { id, node, network, hellos, address: { id, address: listener.address } };
};

const stop = async (nodes: readonly Running[]): Promise<void> => {
  for (const { node, network } of nodes) {
    await new Promise<void>((resolve) => node.close(resolve));
    await network.close();
  }
};

const append = (node: ReplicaNode, value: string): Promise<number> =>
  new Promise((resolve, reject) => {
    node.group(asGroupId(1))!.append(textBatch(value), { acks: 'quorum' }, (error, appended) => {
      if (error !== null) reject(error);
      else resolve(appended!.firstOffset);
    });
  });

describe('three nodes over TCP', () => {
  test('elect a leader, commit, and go on when one of them goes', async () => {
    const nodes = await Promise.all(ids.map((id) => startNode(id, tcpTransport)));
    let running: Running[] = nodes;
    try {
      const addresses = nodes.map(({ address }) => address);
      for (const { node, network } of nodes) {
        network.setPeers(addresses);
        node.start();
      }
      const leader = (): Running | undefined =>
        running.find(({ node }) => node.group(asGroupId(1))!.isEstablishedLeader);
      await until(() => leader() !== undefined);
      const first = leader()!;
      const offset = await append(first.node, 'x'.repeat(100_000));
      expect(offset).toBeGreaterThan(1);
      await until(() => nodes.every(({ node }) => node.group(asGroupId(1))!.readableOffset >= offset));
      for (const { hellos, id } of nodes)
        expect([...new Set(hellos)].sort()).toEqual(ids.filter((each) => each !== id));
      running = nodes.filter((each) => each !== first);
      await stop([first]);
      await until(() => leader() !== undefined);
      expect(await append(leader()!.node, 'after')).toBeGreaterThan(offset);
    } finally {
      await stop(running);
    }
  });

  test('send nothing to a node that answers under another name', async () => {
    const [a, b] = await Promise.all([startNode(ids[0], tcpTransport), startNode(ids[1], tcpTransport)]);
    try {
      a.network.setPeers([{ id: ids[2], address: b.address.address }]);
      await until(() => b.hellos.includes(1));
      await turn();
      expect(a.network.post(ids[2], Buffer.from([1]))).toBe(false);
      expect(a.hellos).toEqual([]);
      expect(b.node.counters.framesReceived).toBe(0);
    } finally {
      await stop([a, b]);
    }
  });
});

describe('a node that is not who it says it is', () => {
  test('is told so, and neither heard nor spoken to', async () => {
    const time = { scheduler: systemScheduler, rng: new SeededRng(7) };
    const heard: string[] = [];
    const refusals: string[] = [];
    const listen = async (
      id: number,
      options: Partial<TcpPeerNetworkOptions>,
    ): Promise<{ readonly network: TcpPeerNetwork; readonly address: PeerAddress }> => {
      const network = new TcpPeerNetwork({
        ...time,
        transport: tcpTransport,
        hello: { nodeId: id, clusterId: 'spec', software: 'spec', addresses: {}, directory: `disk of ${id}` },
        peers: [],
        ...options,
      });
      const receiver = {
        receive: (_from: NodeId, payload: Buffer) => heard.push(payload.toString()),
        peerLost: () => {},
      };
      const { address } = await network.start({ host: '127.0.0.1', port: 0 }, receiver);
      return { network, address: { id: asNodeId(id), address } };
    };
    const known = await listen(1, {
      refusal: ({ directory }) =>
        directory === 'disk of 2' ? new TidelineError('directory-foreign', 'not the disk of before') : null,
    });
    const stranger = await listen(2, { onRefused: (peer, error) => refusals.push(`${peer}: ${error.message}`) });
    known.network.setPeers([stranger.address]);
    stranger.network.setPeers([known.address]);
    await until(() => {
      stranger.network.post(asNodeId(1), Buffer.from('from the stranger'));
      known.network.post(asNodeId(2), Buffer.from('to the stranger'));
      return refusals.length > 0;
    });
    expect(refusals[0]).toBe('1: not the disk of before');
    expect(heard).toEqual([]);
    await known.network.close();
    await stranger.network.close();
  });
});
