import { readFileSync, realpathSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { TidelineError } from '#kernel';

/**
 * Exclusive use of a folder. Node offers no flock, so on Linux the lock is a listening socket in the abstract namespace whose name is the folder's
 * device and inode: the kernel gives a name to one socket at a time, also within one process, and takes it back when the process ends, however it
 * ends. No process id is compared, so none can be mistaken for another that had it before. It does not reach across network
 * namespaces: two containers must not share a data directory.
 *
 * Elsewhere, and where such sockets are forbidden, the lock is the file `lock` with its owner's process id and start time; it counts while that
 * process lives.
 *
 * The file is written in both cases, to be able to say who holds the folder.
 */
export const lockDirectorySync = (path: string): { release(): void } => {
  const info = `${path}/${LOCK_FILE}`;
  const owner = describeOwner(info);
  const server = process.platform === 'linux' ? takeName(nameOf(path)) : 'unsupported';
  if (server === 'taken') throw locked(path, owner);
  if (server === 'unsupported') {
    if (heldHere.has(realpathSync(path)) || (owner && isAlive(owner))) throw locked(path, owner);
  }
  const real = realpathSync(path);
  heldHere.add(real);
  note(info);
  return {
    release: () => {
      heldHere.delete(real);
      try {
        unlinkSync(info);
      } catch {
        // It only says who holds the lock.
      }
      if (server !== 'unsupported') server.close();
    },
  };
};

const LOCK_FILE = 'lock';
/** For where the system does not tell two holders in one process apart. */
const heldHere = new Set<string>();

interface Owner {
  readonly pid: number;
  readonly startedAt: string;
  readonly host: string;
}

const nameOf = (path: string): string => {
  const { dev, ino } = statSync(path, { bigint: true });
  return `\0tideline-data-${dev}-${ino}`;
};

/** Binding happens within the call of listen; only the error is told later. */
const takeName = (name: string): Server | 'taken' | 'unsupported' => {
  const server = createServer((socket) => socket.destroy());
  server.on('error', () => undefined);
  server.listen({ path: name, exclusive: true });
  if (server.listening) {
    server.unref();
    return server;
  }
  // Why it failed is told only after this turn; but where no name at all can be taken there are no such sockets.
  return canTakeAnyName() ? 'taken' : 'unsupported';
};

const canTakeAnyName = (): boolean => {
  const probe = createServer();
  probe.on('error', () => undefined);
  probe.listen({ path: `\0tideline-probe-${process.pid}-${process.hrtime.bigint()}`, exclusive: true });
  const { listening } = probe;
  probe.close();
  return listening;
};

/** Start time of a process in the kernel's ticks, so that a process id used again is not mistaken for the old one. */
const startOf = (pid: number): string => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${boot}/${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return '';
  }
};

const isAlive = ({ pid, startedAt }: Owner): boolean => {
  if (startedAt !== '' && startOf(pid) !== startedAt) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

const note = (path: string): void => {
  try {
    writeFileSync(path, `${process.pid}\n${startOf(process.pid)}\n${hostname()}\n`, { mode: 0o640 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EROFS' && code !== 'EACCES' && code !== 'ENOSPC') throw error;
  }
};

const describeOwner = (path: string): Owner | null => {
  try {
    const [pid, startedAt, host] = readFileSync(path, 'utf8').split('\n');
    return Number.isSafeInteger(Number(pid)) && Number(pid) > 0 ? { pid: Number(pid), startedAt, host } : null;
  } catch {
    return null;
  }
};

const locked = (path: string, owner: Owner | null): TidelineError =>
  new TidelineError(
    'directory-locked',
    `${path} is in use by ${owner ? `process ${owner.pid} on ${owner.host}` : 'another process'}. ` +
      `Stop it, or give this node another data directory.`,
    { details: { directory: path, ...(owner && { pid: owner.pid }) } },
  );
