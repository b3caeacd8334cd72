import type { ChildProcess } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Sample } from './bench.js';

/** Full path of a program, or null when it is not installed. */
export const findOnPath = (program: string): string | null => {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    const file = join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      continue;
    }
  }
  return null;
};

const STOP_KILL_AFTER_MS = 5000;

/** Ends processes that were started here, by their ids; waits until they are gone. */
export const stopAll = async (children: readonly ChildProcess[]): Promise<void> => {
  await Promise.all(
    children.map(
      (child) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) return resolve();
          const killer = setTimeout(() => child.kill('SIGKILL'), STOP_KILL_AFTER_MS);
          child.once('exit', () => {
            clearTimeout(killer);
            resolve();
          });
          child.kill('SIGTERM');
        }),
    ),
  );
};

const TICKS_PER_SECOND = 100;

/** User and system CPU time a process has used so far, seconds, with that of its children that have ended; 0 where /proc is missing. */
export const cpuSeconds = (pid: number): number => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    return [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
};

/** Resident memory of a process in bytes; 0 where /proc is missing. */
export const residentBytes = (pid: number): number => {
  try {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
};

/** Processes into which profiler.ts was loaded; null: none. */
let profiledPids: Set<number> | null = null;

export const profileProcesses = (pids: readonly number[]): void => {
  profiledPids = new Set(pids);
};

/** Begins or ends profiles of those of them that write some. */
export const toggleProfile = (pids: readonly number[]): void => {
  for (const pid of pids) if (profiledPids?.has(pid)) process.kill(pid, 'SIGUSR2');
};

/** Process ids with the leader's first, as `measuringCpu` takes them. */
export const leaderFirst = (pids: readonly number[], leader: number): number[] => [
  ...pids.slice(leader, leader + 1),
  ...pids.filter((_, i) => i !== leader),
];

/**
 * Runs `work` and adds CPU µs per operation of each process, before and after it being read from /proc: of the servers one by one, the
 * leader first, of all of them, and of this process, which makes the load (wrk is a child of it and counts when it has ended).
 */
export const measuringCpu = async (servers: readonly number[], work: () => Promise<Sample>): Promise<Sample> => {
  const pids = [...servers, process.pid];
  toggleProfile(servers);
  const before = pids.map(cpuSeconds);
  const began = performance.now();
  const sample = await work();
  const operations = Math.max(1, sample.operations ?? (sample.value * (performance.now() - began)) / 1000);
  toggleProfile(servers);
  const us = pids.map((pid, i) => ((cpuSeconds(pid) - before[i]) * 1e6) / operations);
  const cpuUs: Record<string, number> = { servers: us.slice(0, -1).reduce((sum, each) => sum + each, 0) };
  for (let i = 0; i < servers.length; i++) cpuUs[i === 0 ? 'leader' : `follower-${i}`] = us[i];
  return { ...sample, cpuUs: { ...cpuUs, load: us.at(-1)! } };
};
