import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type NatsConnection } from 'nats';
import { freePorts } from '../../support/free-ports.js';
import { findOnPath, leaderFirst, stopAll } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import type { PeerCluster } from '../bench.js';

/** Three NATS servers with JetStream: a write is acknowledged by a majority and synced later (every two minutes). Debian's nats-server. */
export const startNats = async (directory: string): Promise<(PeerCluster & { readonly urls: string[] }) | null> => {
  const binary = findOnPath('nats-server');
  if (!binary) return null;
  const ports = await freePorts(6);
  const routes = [0, 1, 2].map((i) => `nats://127.0.0.1:${ports[i * 2 + 1]}`).join(',');
  const children: ChildProcess[] = [0, 1, 2].map((i) => {
    const home = join(directory, `n${i + 1}`);
    mkdirSync(home, { recursive: true });
    const config = join(home, 'nats.conf');
    writeFileSync(
      config,
      `server_name: n${i + 1}\nlisten: "127.0.0.1:${ports[i * 2]}"\njetstream { store_dir: "${home}" }\ncluster { name: bench, listen: "127.0.0.1:${ports[i * 2 + 1]}", routes: [${routes}] }\n`,
    );
    return spawn(binary, ['-c', config], { stdio: 'ignore' });
  });
  const urls = [0, 1, 2].map((i) => `127.0.0.1:${ports[i * 2]}`);
  let leader = 0;
  await untilTrue('NATS JetStream to take a stream', async () => {
    let connection: NatsConnection | null = null;
    try {
      connection = await connect({ servers: urls, timeout: 1000, maxReconnectAttempts: 0 });
      const manager = await connection.jetstreamManager({ timeout: 2000 });
      await manager.streams.add({ name: 'bench', subjects: ['bench.>'], num_replicas: 3 });
      const { cluster } = await manager.streams.info('bench');
      leader = ['n1', 'n2', 'n3'].indexOf(cluster?.leader ?? '');
      return leader >= 0;
    } catch {
      return false;
    } finally {
      await connection?.close();
    }
  });
  return {
    name: 'nats',
    description: 'NATS JetStream R3, no sync per write',
    httpPort: 0,
    urls,
    pids: leaderFirst(
      children.map((child) => child.pid!),
      leader,
    ),
    stop: () => stopAll(children),
  };
};
