import { afterEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freeBasePort } from '../support/free-ports.js';
import { startRealCluster, type RealCluster } from '../support/real-cluster.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
}, 60_000);

/** Starts a standalone node that is expected to refuse; resolves with its exit code and what it said. */
const refusedStart = (args: readonly string[]): Promise<{ code: number | null; said: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'dist', 'apps', 'standalone', 'src', 'main.js'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    cleanups.push(() => {
      if (child.exitCode === null) child.kill('SIGKILL');
    });
    let said = '';
    const hear = (chunk: Buffer): void => {
      said += chunk.toString();
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said }));
  });

const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'tideline-refusal-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const cluster = async (): Promise<RealCluster> => {
  const started = await startRealCluster({ nodes: 1 });
  cleanups.push(() => started.stop());
  return started;
};

describe('a node refuses to start and says what to do', () => {
  test('with an option it does not know, naming the one that was meant', async () => {
    const { code, said } = await refusedStart(['--bse-port', '7400']);
    expect(code).toBe(2);
    expect(said).toContain('bse-port');
    expect(said).toContain('base-port');
  }, 30_000);

  test('with a value that is not allowed, naming what is', async () => {
    const { code, said } = await refusedStart(['--base-port', 'abc', '--durability', 'maybe']);
    expect(code).toBe(2);
    expect(said).toMatch(/base-port.*abc/);
    expect(said).toMatch(/durability.*maybe/);
    expect(said).toMatch(/sync.*os/);
  }, 30_000);

  test('on a data directory another node uses', async () => {
    const running = await cluster();
    const { code, said } = await refusedStart([
      '--data-dir',
      join(running.directory, 'node-1'),
      '--base-port',
      String(await freeBasePort(1)),
    ]);
    expect(code).toBe(1);
    expect(said).toMatch(/data directory/i);
    expect(said).toContain(join(running.directory, 'node-1'));
    expect((await fetch(`http://${running.launcher.gateways[0].httpAddress}/readyz`)).status).toBe(200);
  }, 60_000);

  test('on a data directory of another cluster', async () => {
    const stopped = await cluster();
    await stopped.launcher.stop();
    const { code, said } = await refusedStart([
      '--data-dir',
      join(stopped.directory, 'node-1'),
      '--cluster-name',
      'somebody-else',
      '--base-port',
      String(await freeBasePort(1)),
    ]);
    expect(code).toBe(1);
    expect(said).toContain('somebody-else');
  }, 60_000);

  test('on a port somebody listens on, naming the port', async () => {
    const basePort = await freeBasePort(1);
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(basePort, '127.0.0.1', resolve));
    cleanups.push(() => new Promise<void>((resolve) => squatter.close(() => resolve())));
    const { code, said } = await refusedStart(['--data-dir', scratch(), '--base-port', String(basePort)]);
    expect(code).toBe(1);
    expect(said).toContain(String(basePort));
  }, 60_000);
});

describe('garbage on a TCP port', () => {
  const garbage: Record<string, Buffer> = {
    'random bytes': Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919) & 0xff)),
    'a huge length': Buffer.from('ffffffffffffffffffffffffffffffff', 'hex'),
    'an HTTP request': Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    'a truncated frame': Buffer.from([40, 0, 0, 0, 1]),
    'a huge length in the JSON protocol': Buffer.from('99999999999#{}'),
  };

  test('ends that connection at most; the node goes on', async () => {
    const running = await cluster();
    const [gateway] = running.launcher.gateways;
    const ports = [0, 1, 2, 10, 11, 20].map((offset) => gateway.basePort + offset);
    for (const port of ports) {
      for (const bytes of Object.values(garbage)) {
        await new Promise<void>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => socket.end(bytes));
          socket.on('data', () => undefined);
          socket.once('error', () => resolve());
          socket.once('close', () => resolve());
          socket.setTimeout(10_000, () => socket.destroy());
        });
      }
    }
    expect((await fetch(`http://${gateway.httpAddress}/readyz`)).status).toBe(200);
    const url = `http://${gateway.httpAddress}/v1/views/default/entries/after-garbage`;
    expect((await fetch(url, { method: 'PUT', body: 'fine' })).status).toBeLessThan(300);
    expect(await (await fetch(url)).text()).toBe('fine');
    expect(gateway.running).toBe(true);
  }, 120_000);
});
