import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, closeSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { TidelineClient } from '#client';
import { startProgress } from '../../apps/cli/src/progress.js';
import { freeBasePort } from '../support/free-ports.js';
import { TOPIC, VIEW, maintainerName } from './debian-view.js';
import { keyOfPackage, readPackageFile, readPackageIndex, type Package, type PackageIndex } from './package-index.js';
import { untilTrue } from '../support/until-true.js';
import { Differences, say } from './differences.js';

/**
 * `npm run demo -- packages [--file FILE] [--limit N] [--keep]`: this machine's Debian package index as a projection in a node of its own:
 * loaded, looked up by section and by maintainer, partly expired into the archive, snapshotted, killed with SIGKILL, restored, and compared with
 * the index at each step. Exits 1 if anything differs.
 */
const PARTITIONS = 2;
const RECORDS_PER_APPEND = 250;
const APPENDS_IN_FLIGHT = 8;
const PAGE = 1000;
const SNAPSHOT_INTERVAL_MS = 1000;
/** The games are announced for a moment only. */
const EXPIRING_SECTION = 'games';
const EXPIRING_MS = 1000;
const MAINTAINERS_ASKED = 50;
const WAIT_MS = 120_000;

const count = (n: number): string => n.toLocaleString('en-US');
const seconds = (sinceMs: number): string => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
const isExpiring = ({ section }: Package): boolean => section.endsWith(EXPIRING_SECTION);

interface EntryAnswer {
  readonly key: string;
  readonly value: Package;
}

interface PageAnswer {
  readonly entries: readonly EntryAnswer[];
  readonly cursor: string | null;
}

interface ViewAnswer {
  readonly state: string;
  readonly entries: number;
  readonly bytes: number;
  readonly lag: number;
  readonly parked: number;
  readonly partitions: readonly { readonly partition: number; readonly offset: number; readonly digest: string }[];
}

/** One node with the projection in it, as a process that can be killed. */
class PackagesNode {
  private process: ChildProcess | null = null;
  readonly url: string;

  constructor(
    private readonly directory: string,
    private readonly basePort: number,
  ) {
    this.url = `http://127.0.0.1:${basePort}`;
  }

  get nativeAddress(): string {
    return `127.0.0.1:${this.basePort + 1}`;
  }

  get pid(): number {
    return this.process!.pid!;
  }

  async start(): Promise<void> {
    const log = openSync(join(this.directory, 'node.log'), 'a');
    const args = [
      fileURLToPath(new URL('./packages-node.js', import.meta.url)),
      `--data-dir=${join(this.directory, 'data')}`,
      `--base-port=${this.basePort}`,
      `--topics=${TOPIC}:${PARTITIONS}`,
      `--snapshot-interval-ms=${SNAPSHOT_INTERVAL_MS}`,
      '--log-level=warn',
    ];
    this.process = spawn(process.execPath, args, { stdio: ['ignore', log, log] });
    closeSync(log);
    await waitFor('the node is ready', async () => (await fetch(`${this.url}/readyz`)).ok);
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const { process: child } = this;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`);
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** Everything that was loaded is in the view. */
  async hasApplied(): Promise<boolean> {
    const { state, lag, partitions } = await this.view();
    return state === 'live' && lag === 0 && partitions.length === PARTITIONS;
  }

  view(): Promise<ViewAnswer> {
    return this.get(`/v1/views/${VIEW}`);
  }

  /** All pages of a list. */
  async all(path: string, visit: (entry: EntryAnswer) => void): Promise<number> {
    let entries = 0;
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: PageAnswer = await this.get(
        `${path}&limit=${PAGE}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
      );
      for (const entry of page.entries) visit(entry);
      entries += page.entries.length;
      ({ cursor } = page);
    }
    return entries;
  }
}

/** A node that is starting, or has been killed, answers nothing yet. */
const waitFor = (what: string, condition: () => Promise<boolean>): Promise<void> =>
  untilTrue(what, () => condition().catch(() => false), WAIT_MS);

const load = async (node: PackagesNode, packages: readonly Package[]): Promise<void> => {
  const client = await TidelineClient.connect({ addresses: [node.nativeAddress] });
  const progress = startProgress('loading', packages.length);
  let next = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (next < packages.length) {
      const some = packages.slice(next, next + RECORDS_PER_APPEND);
      next += some.length;
      await client.append(
        TOPIC,
        some.map((one) => ({
          key: keyOfPackage(one),
          type: 'package',
          value: JSON.stringify(one),
          headers: { 'content-type': 'application/json' },
          ...(isExpiring(one) && { ttlMs: EXPIRING_MS }),
        })),
      );
      progress.update((done += some.length));
    }
  };
  try {
    await Promise.all(Array.from({ length: APPENDS_IN_FLIGHT }, worker));
  } finally {
    await client.close();
  }
  progress.finish();
};

/** What differs from the packages that are to be there. */
const compareEntries = async (node: PackagesNode, expected: ReadonlyMap<string, Package>): Promise<string[]> => {
  const problems: string[] = [];
  const entries = await node.all(`/v1/views/${VIEW}/entries?values=true`, ({ key, value }) => {
    const one = expected.get(key);
    if (one === undefined) problems.push(`${key} is there and should not`);
    else if (JSON.stringify(value) !== JSON.stringify(one)) problems.push(`${key} is another`);
  });
  if (entries !== expected.size) problems.push(`${entries} packages instead of ${expected.size}`);
  return problems;
};

/** By index, against a count of the packages that are to be there. */
const compareIndex = async (
  node: PackagesNode,
  index: string,
  expected: ReadonlyMap<string, number>,
): Promise<string[]> => {
  const problems: string[] = [];
  for (const [value, size] of expected) {
    const path = `/v1/views/${VIEW}/entries?index=${index}&value=${encodeURIComponent(value)}`;
    const found = await node.all(path, () => undefined);
    if (found !== size) problems.push(`${index} ${value}: ${found} packages instead of ${size}`);
  }
  return problems;
};

const countBy = (packages: Iterable<Package>, by: (one: Package) => string): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const one of packages) counts.set(by(one), (counts.get(by(one)) ?? 0) + 1);
  return new Map([...counts].sort(([, a], [, b]) => b - a));
};

/** Whether each partition has a snapshot. */
const snapshotted = (directory: string): boolean => {
  const folders = existsSync(directory)
    ? readdirSync(directory, { recursive: true, withFileTypes: true }).filter(
        (file) => file.isFile() && file.name.endsWith('.snap') && file.parentPath.includes(`${VIEW}@1-`),
      )
    : [];
  return new Set(folders.map(({ parentPath }) => parentPath)).size === PARTITIONS;
};

/** Takes an index through all of it. Returns the number of differences. */
export const tryPackages = async (
  { packages }: PackageIndex,
  options: { readonly directory: string; readonly basePort: number },
): Promise<number> => {
  const differences = new Differences();
  const all = new Map(packages.map((one) => [keyOfPackage(one), one]));
  const kept = new Map([...all].filter(([, one]) => !isExpiring(one)));
  const sections = countBy(kept.values(), ({ section }) => section);
  const maintainers = new Map([...countBy(kept.values(), maintainerName)].slice(0, MAINTAINERS_ASKED));

  const check = async (when: string, node: PackagesNode): Promise<void> => {
    let began = performance.now();
    const entries = await compareEntries(node, kept);
    differences.report(`${when}: ${count(kept.size)} packages, each as in the index (${seconds(began)})`, entries);
    began = performance.now();
    const bySection = await compareIndex(node, 'section', sections);
    differences.report(`${when}: ${sections.size} sections by index (${seconds(began)})`, bySection);
    began = performance.now();
    const byMaintainer = await compareIndex(node, 'maintainer', maintainers);
    differences.report(
      `${when}: the ${maintainers.size} busiest maintainers by index (${seconds(began)})`,
      byMaintainer,
    );
  };

  const node = new PackagesNode(options.directory, options.basePort);
  try {
    let began = performance.now();
    await node.start();
    say(`a node with the projection is ready after ${seconds(began)}, pid ${node.pid}`);

    began = performance.now();
    await load(node, packages);
    const appended = performance.now() - began;
    await waitFor('the view has applied all', () => node.hasApplied());
    say(
      `loaded ${count(packages.length)} records in ${(appended / 1000).toFixed(1)} s ` +
        `(${count(Math.round((packages.length / appended) * 1000))}/s), applied after ${seconds(began)}`,
    );

    began = performance.now();
    const gone = all.size - kept.size;
    await waitFor('what expires has left the view', async () => (await node.view()).entries === kept.size);
    const archived = new Map<string, Package>();
    await node.all(`/v1/views/${VIEW}/archive?`, ({ key, value }) => archived.set(key, value));
    const lost = [...all].filter(
      ([key, one]) => isExpiring(one) && JSON.stringify(archived.get(key)) !== JSON.stringify(one),
    );
    differences.report(`${count(gone)} ${EXPIRING_SECTION} expired into the archive (${seconds(began)})`, [
      ...lost.map(([key]) => `${key} is not in the archive as it was`),
      ...(archived.size === gone ? [] : [`${archived.size} in the archive instead of ${gone}`]),
    ]);
    await check('before', node);
    const before = await node.view();
    differences.report(
      'before: nothing was set aside',
      before.parked === 0 ? [] : [`${before.parked} events are parked`],
    );
    say(`     ${count(before.entries)} entries in ${count(Math.round(before.bytes / 1024))} KiB`);

    began = performance.now();
    await waitFor('each partition has a snapshot', () =>
      Promise.resolve(snapshotted(join(options.directory, 'data', 'snapshots'))),
    );
    say(`a snapshot of each of ${PARTITIONS} partitions is written (${seconds(began)})`);
    await node.stop('SIGKILL');
    say('killed with SIGKILL');

    began = performance.now();
    await node.start();
    await waitFor('the view has applied all', () => node.hasApplied());
    say(`restored and ready after ${seconds(began)}, pid ${node.pid}`);
    const after = await node.view();
    const digests = (view: ViewAnswer): string => view.partitions.map(({ digest }) => digest).join(' ');
    differences.report(
      `after: digests are equal (${digests(before)})`,
      digests(after) === digests(before) ? [] : [digests(after)],
    );
    await check('after', node);
  } finally {
    await node.stop('SIGTERM');
  }
  return differences.count;
};

/** Returns the exit code. */
export const runPackages = async (args: readonly string[]): Promise<number> => {
  const { values } = parseArgs({
    args: [...args],
    options: { file: { type: 'string' }, limit: { type: 'string' }, keep: { type: 'boolean', default: false } },
  });
  const limit = values.limit === undefined ? Number.POSITIVE_INFINITY : Number(values.limit);
  if (!(limit >= 1)) {
    console.error('--limit takes a number of at least 1');
    return 2;
  }
  const began = performance.now();
  const index = await (values.file === undefined ? readPackageIndex(limit) : readPackageFile(values.file, limit));
  if (index === null) {
    console.error(
      values.file === undefined
        ? 'there is no Debian package index on this machine (apt-cache dumpavail says nothing, /var/lib/apt/lists has no Packages file); give one with --file'
        : `${values.file} holds no packages`,
    );
    return 1;
  }
  const sections = countBy(index.packages, ({ section }) => section);
  say(`${count(index.packages.length)} packages of ${sections.size} sections from ${index.from} (${seconds(began)})`);
  const directory = mkdtempSync(join(tmpdir(), 'tideline-packages-'));
  let differences = 1;
  try {
    differences = await tryPackages(index, { directory, basePort: await freeBasePort(1) });
  } finally {
    if (values.keep || differences > 0) say(`data and log kept in ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
  }
  say(differences === 0 ? `demo passed in ${seconds(began)}` : `demo FAILED: ${differences} differences`);
  return differences === 0 ? 0 : 1;
};
