import { createServer, type Server } from 'node:net';

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

/** Ports of `nodes` nodes, each 100 further on, that no other run of tests takes before they are released. */
export interface ReservedPorts {
  readonly basePort: number;
  release(): void;
}

/** A node leaves it alone; whoever listens on it has the hundred it belongs to. */
const RESERVATION = 99;
const NODE_PORTS = [0, 1, 2, 3, 4, 10, 11, 20];
/** Below the range the kernel hands out to outgoing connections. */
const RANGE_START = 12_000;
const RANGE_END = 31_000;
/** Has no divisor in common with any number of tries, so that neighbouring processes begin in different places. */
const STRIDE = 37;

/**
 * A port that was free is not free any more when the node, seconds later, comes to listen on it, if another process has looked at the same time: so
 * each hundred is held by a listener of this process.
 */
export const reservePorts = async (nodes: number): Promise<ReservedPorts> => {
  const span = nodes * 100;
  const tries = Math.floor((RANGE_END - RANGE_START) / span);
  for (let i = 0; i < tries; i++) {
    const basePort = RANGE_START + ((process.pid * STRIDE + i) % tries) * span;
    const hundreds = Array.from({ length: nodes }, (_, k) => basePort + 100 * k);
    const held = await Promise.all(hundreds.map((hundred) => hold(hundred + RESERVATION)));
    const release = (): void => {
      for (const server of held) server?.close();
    };
    if (held.every((server) => server !== null)) {
      const wanted = hundreds.flatMap((hundred) => NODE_PORTS.map((offset) => hundred + offset));
      if ((await Promise.all(wanted.map(isFree))).every(Boolean)) return { basePort, release };
    }
    release();
  }
  throw new Error('no free range of ports');
};

/** The same for as long as this process lives. */
export const freeBasePort = async (nodes: number): Promise<number> => (await reservePorts(nodes)).basePort;

const hold = (port: number): Promise<Server | null> =>
  new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', () => resolve(null));
    // Keeps no process alive.
    server.listen(port, '127.0.0.1', () => resolve(server.unref()));
  });

const isFree = async (port: number): Promise<boolean> => {
  const server = await hold(port);
  if (server === null) return false;
  await new Promise((resolve) => server.close(resolve));
  return true;
};
