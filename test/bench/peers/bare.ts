import { fork, type ChildProcess } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts } from '../../support/free-ports.js';
import { stopAll } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';

const program = join(dirname(fileURLToPath(import.meta.url)), 'bare-node.js');

/** Client of the bare loop: a put is answered when a majority has it on disk. */
export interface BareLoop {
  put(payload: Buffer): Promise<void>;
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export const startBareLoop = async (directory: string): Promise<BareLoop> => {
  const [leaderPort, ...followers] = await freePorts(3);
  const start = (...args: string[]): ChildProcess =>
    fork(program, args, { stdio: 'ignore', env: { ...process.env, UV_THREADPOOL_SIZE: '32' } });
  const children = followers.map((port, i) => start('follower', String(port), join(directory, `follower-${i}`)));
  for (const port of followers) await listening(port);
  children.unshift(start('leader', String(leaderPort), join(directory, 'leader'), ...followers.map(String)));
  await listening(leaderPort);
  const socket = connect(leaderPort, '127.0.0.1');
  socket.setNoDelay(true);
  const waiting = new Map<number, () => void>();
  let nextId = 1;
  let out: Buffer[] = [];
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    for (; data.length - at >= 8; at += 8) {
      const id = data.readUInt32LE(at + 4);
      waiting.get(id)?.();
      waiting.delete(id);
    }
    rest = data.subarray(at);
  });
  return {
    put: (payload) =>
      new Promise((resolve) => {
        const id = nextId++ >>> 0;
        waiting.set(id, resolve);
        const head = Buffer.allocUnsafe(8);
        head.writeUInt32LE(4 + payload.length, 0);
        head.writeUInt32LE(id, 4);
        out.push(head, payload);
        if (out.length > 2) return;
        setImmediate(() => {
          socket.write(Buffer.concat(out));
          out = [];
        });
      }),
    pids: children.map((child) => child.pid!),
    stop: async () => {
      socket.destroy();
      await stopAll(children);
    },
  };
};

const listening = (port: number): Promise<void> =>
  untilTrue(`port ${port}`, () => {
    const { promise, resolve } = settled();
    const probe: Socket = connect(port, '127.0.0.1', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
    return promise;
  });

const settled = (): { promise: Promise<boolean>; resolve: (value: boolean) => void } => {
  let resolve: (value: boolean) => void = () => undefined;
  const promise = new Promise<boolean>((done) => {
    resolve = done;
  });
  return { promise, resolve };
};
