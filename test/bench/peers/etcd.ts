import { spawn, type ChildProcess } from 'node:child_process';
import { request } from 'node:http';
import { join } from 'node:path';
import { freePorts } from '../../support/free-ports.js';
import { findOnPath, leaderFirst, stopAll } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import type { PeerCluster } from '../bench.js';

/** Three etcd members with their defaults: every write is synced by a majority. Debian's etcd-server. */
export const startEtcd = async (directory: string): Promise<PeerCluster | null> => {
  const binary = findOnPath('etcd');
  if (!binary) return null;
  const ports = await freePorts(6);
  const names = ['e1', 'e2', 'e3'];
  const cluster = names.map((name, i) => `${name}=http://127.0.0.1:${ports[i * 2 + 1]}`).join(',');
  const children: ChildProcess[] = names.map((name, i) => {
    const client = `http://127.0.0.1:${ports[i * 2]}`;
    const peer = `http://127.0.0.1:${ports[i * 2 + 1]}`;
    return spawn(
      binary,
      [
        ['--name', name],
        ['--data-dir', join(directory, name)],
        ['--listen-client-urls', client],
        ['--advertise-client-urls', client],
        ['--listen-peer-urls', peer],
        ['--initial-advertise-peer-urls', peer],
        ['--initial-cluster', cluster],
        ['--initial-cluster-token', `bench-${process.pid}`],
        ['--log-level', 'error'],
        ['--quota-backend-bytes', String(8 * 1024 ** 3)],
      ].flat(),
      { stdio: 'ignore', env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } },
    );
  });
  const clientPorts = names.map((_, i) => ports[i * 2]);
  await untilTrue('etcd to elect a leader', async () => (await leaderPort(clientPorts)) !== null);
  const leader = (await leaderPort(clientPorts))!;
  return {
    name: 'etcd',
    description: 'etcd ×3, synced',
    httpPort: leader,
    pids: leaderFirst(
      children.map((child) => child.pid!),
      clientPorts.indexOf(leader),
    ),
    stop: () => stopAll(children),
  };
};

/** The member that leads, asked through the JSON gateway. */
const leaderPort = async (ports: readonly number[]): Promise<number | null> => {
  for (const port of ports) {
    const status = await postJson(port, '/v3/maintenance/status').catch(() => null);
    if (status && status['leader'] !== undefined && status['leader'] !== '0' && memberId(status) === status['leader'])
      return port;
  }
  return null;
};

const memberId = (status: Record<string, unknown>): unknown =>
  (status['header'] as Record<string, unknown> | undefined)?.['member_id'];

const postJson = (port: number, path: string): Promise<Record<string, unknown>> =>
  new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port, path, method: 'POST', timeout: 2000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>);
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    call.once('error', reject);
    call.once('timeout', () => call.destroy(new Error('timeout')));
    call.end('{}');
  });
