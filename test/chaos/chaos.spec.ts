import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from '@jest/globals';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const RUN_MS_MAX = 280_000;

let child: ReturnType<typeof spawn> | null = null;

// Asked to stop it stops its nodes, too.
afterAll(async () => {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child!.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}, 60_000);

const VERDICTS = [
  'ok   nothing unexpected while it ran',
  /^ok {3}\d+ operations on \d+ keys are linearizable$/m,
  /^ok {3}\d+ records appended by 9 producers, \d+ in the log: acknowledged ones once and in order, refused ones not$/m,
  'ok   a tail by the SDK saw every record once and in order',
  /^ok {3}a tail by server-sent events, over [1-9]\d* streams, saw every record once and in order$/m,
  /^ok {3}\d+ increments and \d+ pushes took effect once, \d+ were sent again and had the same result$/m,
  /^ok {3}\d+ leases: \d+ looks at them agree with log and log time$/m,
  'ok   the archive of every node holds what expired, once',
  'ok   every node reads the same records',
  'ok   views of all nodes have the same digests at the same offsets',
  /^ok {3}the logs of 6 groups are the same on all disks, byte by byte$/m,
  'ok   the offline check finds no damage on any disk',
];

test(
  'a minute of kills, cuts, stops and flipped bytes under load: nobody was told anything that is not so',
  async () => {
    child = spawn(process.execPath, [join(root, 'dist', 'test', 'chaos', 'main.js'), '--quick', '--rate', '200'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk: Buffer) => (said += String(chunk)));
    const code = await new Promise((resolve) => child!.once('exit', resolve));
    expect(said).toMatch(/chaos passed/);
    expect(code).toBe(0);
    for (const verdict of VERDICTS) expect(said).toMatch(verdict);
    expect(said).toMatch(/^faults .*kill -9 of a leader [1-9]/m);
    expect(said).toMatch(/^operations .*append done [1-9]\d\d/m);
  },
  RUN_MS_MAX,
);
