import { createServer } from 'node:net';

/** Ports nobody listens on at the moment, for processes that must be told theirs. */
export const freePorts = async (count: number): Promise<number[]> => {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
};

/**
 * A base port such that `nodes` nodes, each 100 further on, find all their ports free: below the range the kernel hands out to
 * outgoing connections, starting from a place that differs from process to process.
 */
export const freeBasePort = async (nodes: number): Promise<number> => {
  const RANGE_START = 12_000;
  const RANGE_END = 31_000;
  const span = nodes * 100;
  const tries = Math.floor((RANGE_END - RANGE_START) / span);
  for (let i = 0; i < tries; i++) {
    const base = RANGE_START + ((process.pid * 7 + i) % tries) * span;
    const wanted = Array.from({ length: nodes }, (_, k) =>
      [0, 1, 2, 3, 4, 10, 11, 20].map((offset) => base + 100 * k + offset),
    ).flat();
    const free = await Promise.all(wanted.map(isFree));
    if (free.every(Boolean)) return base;
  }
  throw new Error('no free range of ports');
};

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
