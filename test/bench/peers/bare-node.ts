/**
 * The bare loop: what this runtime allows before Raft, views and interfaces are added. A leader and followers in plain Node: framed TCP
 * (u32 length, u32 id, payload), group commit, one O_DSYNC write in flight, an answer when one follower and the leader itself have the bytes on disk.
 *
 *   node bare-node.js follower PORT FILE
 *   node bare-node.js leader PORT FILE FOLLOWER_PORT FOLLOWER_PORT
 */
import { constants, openSync, write, writeSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';

const PREALLOCATED_BYTES = 256 * 1024 * 1024;

const [role, port, file, ...followerPorts] = process.argv.slice(2);

/** Calls back with each whole frame body (id and payload). */
const onFrames = (socket: Socket, frame: (body: Buffer) => void): void => {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    while (data.length - at >= 4) {
      const length = data.readUInt32LE(at);
      if (data.length - at - 4 < length) break;
      frame(data.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    rest = data.subarray(at);
  });
  socket.on('error', () => socket.destroy());
};

const framed = (id: number, payload: Buffer): Buffer => {
  const bytes = Buffer.allocUnsafe(8 + payload.length);
  bytes.writeUInt32LE(4 + payload.length, 0);
  bytes.writeUInt32LE(id, 4);
  payload.copy(bytes, 8);
  return bytes;
};

/** Appends one buffer at a time, each durable when `done` is called; starts over at the end of the file. */
class SyncedFile {
  private readonly fd: number;
  private position = 0;

  constructor(path: string) {
    const plain = openSync(path, 'w');
    const zeros = Buffer.alloc(4 * 1024 * 1024);
    for (let at = 0; at < PREALLOCATED_BYTES; at += zeros.length) writeSync(plain, zeros, 0, zeros.length, at);
    this.fd = openSync(path, constants.O_RDWR | constants.O_DSYNC);
  }

  append(bytes: Buffer, done: () => void): void {
    if (this.position + bytes.length > PREALLOCATED_BYTES) this.position = 0;
    const at = this.position;
    this.position += bytes.length;
    write(this.fd, bytes, 0, bytes.length, at, (error) => {
      if (error) throw error;
      done();
    });
  }
}

const disk = new SyncedFile(file);

const follower = (): void => {
  createServer((socket) => {
    socket.setNoDelay(true);
    const waiting: { id: number; payload: Buffer }[] = [];
    let writing = false;
    const next = (): void => {
      const one = waiting.shift();
      writing = one !== undefined;
      if (!one) return;
      disk.append(one.payload, () => {
        socket.write(framed(one.id, Buffer.alloc(0)));
        next();
      });
    };
    onFrames(socket, (body) => {
      waiting.push({ id: body.readUInt32LE(0), payload: body.subarray(4) });
      if (!writing) next();
    });
  }).listen(Number(port), '127.0.0.1');
};

interface Group {
  readonly id: number;
  readonly clients: { socket: Socket; id: number }[];
  durable: number;
}

const leader = (): void => {
  const followers = followerPorts.map((followerPort) => {
    const socket = connect(Number(followerPort), '127.0.0.1');
    socket.setNoDelay(true);
    return socket;
  });
  let gathering: { socket: Socket; id: number; payload: Buffer }[] = [];
  const groups = new Map<number, Group>();
  let nextGroup = 1;
  let writing = false;

  const answered = (group: Group): void => {
    group.durable++;
    const MAJORITY = 2;
    if (group.durable !== MAJORITY) return;
    groups.delete(group.id);
    const bySocket = new Map<Socket, Buffer[]>();
    for (const { socket, id } of group.clients) {
      const list = bySocket.get(socket);
      if (list) list.push(framed(id, Buffer.alloc(0)));
      else bySocket.set(socket, [framed(id, Buffer.alloc(0))]);
    }
    for (const [socket, answers] of bySocket) socket.write(Buffer.concat(answers));
  };
  for (const socket of followers) {
    onFrames(socket, (body) => {
      const group = groups.get(body.readUInt32LE(0));
      if (group) answered(group);
    });
  }
  const flush = (): void => {
    if (writing || gathering.length === 0) return;
    const commands = gathering;
    gathering = [];
    writing = true;
    const group: Group = { id: nextGroup++, clients: commands.map(({ socket, id }) => ({ socket, id })), durable: 0 };
    groups.set(group.id, group);
    const payload = Buffer.concat(commands.map((command) => command.payload));
    const message = framed(group.id, payload);
    for (const socket of followers) socket.write(message);
    disk.append(payload, () => {
      writing = false;
      answered(group);
      flush();
    });
  };
  createServer((socket) => {
    socket.setNoDelay(true);
    let scheduled = false;
    onFrames(socket, (body) => {
      gathering.push({ socket, id: body.readUInt32LE(0), payload: body.subarray(4) });
      if (scheduled) return;
      scheduled = true;
      setImmediate(() => {
        scheduled = false;
        flush();
      });
    });
  }).listen(Number(port), '127.0.0.1');
};

if (role === 'leader') leader();
else follower();
