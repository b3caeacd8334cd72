import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SERVER_NODE_FLAGS } from '../../apps/cli/src/cluster-launcher.js';

const program = join(dirname(fileURLToPath(import.meta.url)), 'view-map-probe.js');

/** What a part of view-map-probe.ts measured, in a process of its own: the memory of the one is not what the other one left behind. */
export const viewMapProbe = (
  part: 'alone' | 'hosted' | 'archived',
  entries: number,
  directory?: string,
): Promise<Record<string, number>> =>
  new Promise((resolve, reject) => {
    // A host has the flags of a server: how much room V8 gives itself says how often it collects garbage.
    const flags = part === 'alone' ? [] : SERVER_NODE_FLAGS;
    const args = [part, String(entries), ...(directory === undefined ? [] : [directory])];
    const child = fork(program, args, { execArgv: ['--expose-gc', ...flags], stdio: 'inherit' });
    child.once('message', (message) => resolve(message as Record<string, number>));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the probe ended with ${code}`)));
  });
