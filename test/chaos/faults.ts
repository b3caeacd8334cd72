import { randomBelow, randomChance } from '#kernel';
import { nodeFileSystem, verifyDataDirectory } from '#storage';
import type { ChaosCluster, ChaosNode } from './chaos-cluster.js';
import { Countdown } from './countdown.js';
import { withVictim, type Fault, type FaultContext } from './fault.js';
import { flipBytes } from './flipped-bytes.js';
import { RECORD_PARTITIONS, RECORD_TOPIC } from './record-load.js';

/** A node that was stopped in the middle of everything may have a lot to do before it is ready, on a machine that has other things to do. */
export const READY_MS_MAX = 90_000;

/** Between, in ms; a third of it in a quick run. */
const span = ({ rng, quick }: FaultContext, min: number, max: number): number =>
  Math.round((min + randomBelow(rng, max - min)) / (quick ? 3 : 1));

const free = (cluster: ChaosCluster): ChaosNode[] =>
  cluster.nodes.filter((node) => !node.taken && node.process.running);

const anyNode = ({ cluster, rng }: FaultContext): ChaosNode | null => {
  const nodes = free(cluster);
  return nodes.length > 0 ? nodes[randomBelow(rng, nodes.length)] : null;
};

const leader = async (context: FaultContext): Promise<ChaosNode | null> =>
  (await (randomChance(context.rng, 0.5)
    ? context.cluster.leader('default', 0)
    : context.cluster.leader(RECORD_TOPIC, randomBelow(context.rng, RECORD_PARTITIONS)))) ?? anyNode(context);

const oftenLeader = async (context: FaultContext): Promise<ChaosNode | null> =>
  randomChance(context.rng, 0.6) ? leader(context) : anyNode(context);

const startAgain = async ({ cluster }: FaultContext, nodes: readonly ChaosNode[]): Promise<void> => {
  for (const { process } of nodes) if (!process.running) process.start();
  await cluster.ready(READY_MS_MAX, nodes);
};

const kill = async (context: FaultContext, node: ChaosNode): Promise<void> => {
  const { say, sleep } = context;
  const downMs = span(context, 300, 5000);
  say(`${node.name} (pid ${node.process.pid}) is killed, for ${downMs} ms`);
  await node.process.stop('SIGKILL');
  await sleep(downMs);
  await startAgain(context, [node]);
};

const pause = async (context: FaultContext, node: ChaosNode): Promise<void> => {
  const { say, sleep } = context;
  const pausedMs = span(context, 500, 8000);
  say(`${node.name} (pid ${node.process.pid}) stands still for ${pausedMs} ms`);
  node.process.kill('SIGSTOP');
  try {
    await sleep(pausedMs);
  } finally {
    node.process.kill('SIGCONT');
  }
};

/**
 * A leader sleeps until there is another one, and wakes up where nothing of that reaches it: it leads, as far as it knows, and its clients
 * ask it. Not shorter in a quick run: an election takes its time.
 */
const wakeCutOff = async (context: FaultContext, node: ChaosNode): Promise<void> => {
  const { cluster, rng, say, sleep } = context;
  const asleepMs = 3000 + randomBelow(rng, 3000);
  const awakeMs = 1000 + randomBelow(rng, 2000);
  say(`${node.name} (pid ${node.process.pid}) stands still for ${asleepMs} ms and is cut off for ${awakeMs} ms more`);
  const ways = [...cutOut(context, node), ...cutIn(context, node)];
  for (const [from, to] of ways) cluster.network.link(from, to).blocked = true;
  node.process.kill('SIGSTOP');
  try {
    await sleep(asleepMs);
    node.process.kill('SIGCONT');
    await sleep(awakeMs);
  } finally {
    node.process.kill('SIGCONT');
    for (const [from, to] of ways) cluster.network.link(from, to).blocked = false;
  }
};

type Way = readonly [from: number, to: number];

/** Blocks the ways; when they open again what they held is delivered, or the connections of `resets` are reset. */
const cut = async (context: FaultContext, ways: readonly Way[], resets: readonly number[]): Promise<void> => {
  const { cluster, rng, say, sleep } = context;
  const cutMs = span(context, 1000, 9000);
  const late = randomChance(rng, 0.5);
  say(
    `cut for ${cutMs} ms: ${ways.map(([from, to]) => `${from}→${to}`).join(' ')}; then what is held ${late ? 'comes late' : 'is lost'}`,
  );
  for (const [from, to] of ways) cluster.network.link(from, to).blocked = true;
  try {
    await sleep(cutMs);
  } finally {
    if (!late) for (const node of resets) cluster.network.reset(node);
    for (const [from, to] of ways) cluster.network.link(from, to).blocked = false;
  }
};

const others = ({ cluster }: FaultContext, node: ChaosNode): number[] =>
  cluster.nodes.filter((other) => other !== node).map(({ id }) => id);

const cutOut = (context: FaultContext, node: ChaosNode): Way[] => others(context, node).map((id) => [node.id, id]);
const cutIn = (context: FaultContext, node: ChaosNode): Way[] => others(context, node).map((id) => [id, node.id]);

const cutPair =
  (bothWays: boolean) =>
  async (context: FaultContext): Promise<boolean> =>
    withVictim(await oftenLeader(context), async (node) => {
      const rest = others(context, node);
      const other = rest[randomBelow(context.rng, rest.length)];
      const there: Way = [node.id, other];
      const back: Way = [other, node.id];
      const one = randomChance(context.rng, 0.5) ? there : back;
      await cut(context, bothWays ? [there, back] : [one], [node.id]);
    });

/** Free bytes below which a log calls its disk nearly full are 128 MiB; half of that is refused and still leaves room for votes. */
const NEARLY_FULL_FREE_BYTES = 64 * 1024 * 1024;

const transferLeadership = async (node: ChaosNode, from: ChaosNode): Promise<void> => {
  await fetch(from.url(`/v1/cluster/partitions/${RECORD_TOPIC}/0/leader`), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ node: node.id }),
    signal: AbortSignal.timeout(10_000),
  }).then((response) => response.arrayBuffer());
};

const storageFull = ({ statistics }: FaultContext): number => statistics.codes.get('storage-full') ?? 0;

const LEADS_MS_MAX = 15_000;
const FULL_NOTICED_MS_MAX = 20_000;

/** A write has been refused for want of room, or the node leads no more. */
const refuses = async (context: FaultContext, before: number, leads: () => Promise<boolean>): Promise<boolean> => {
  for (const countdown = new Countdown(FULL_NOTICED_MS_MAX); !countdown.isOver;) {
    if (storageFull(context) > before || !(await leads())) return true;
    await context.sleep(100);
  }
  return false;
};

const fillNearly = async (context: FaultContext, node: ChaosNode): Promise<void> => {
  const { cluster, say, sleep, problem } = context;
  const helper = cluster.nodes.find((other) => other !== node)!;
  const countdown = new Countdown(LEADS_MS_MAX);
  while ((await cluster.leader(RECORD_TOPIC, 0))?.id !== node.id && !countdown.isOver) {
    await transferLeadership(node, helper).catch(() => undefined);
    await sleep(200);
  }
  const leads = async (): Promise<boolean> => (await cluster.leader(RECORD_TOPIC, 0)) === node;
  const led = await leads();
  const before = storageFull(context);
  say(`${node.name}, ${led ? 'leader' : 'not leader'} of ${RECORD_TOPIC}/0, has a nearly full disk`);
  node.disk!.fill(NEARLY_FULL_FREE_BYTES);
  try {
    if (led && !(await refuses(context, before, leads)))
      problem(`${node.name} leads with a nearly full disk and refused no write for ${FULL_NOTICED_MS_MAX} ms`);
    await sleep(span(context, 1000, 5000));
  } finally {
    node.disk!.empty();
  }
};

/** To the last byte: the process may end, because what it cannot write it cannot promise; never may it answer wrongly. */
const fillUp = async (context: FaultContext, node: ChaosNode): Promise<void> => {
  const { say, sleep } = context;
  say(`${node.name} has a full disk`);
  node.mayEnd = true;
  try {
    const end = performance.now() + span(context, 2000, 8000);
    while (performance.now() < end) {
      node.disk!.fill(0);
      await sleep(200);
    }
  } finally {
    node.disk!.empty();
  }
  if (!node.process.running) say(`${node.name} ended, as it should when it cannot write`);
  await startAgain(context, [node]);
  node.mayEnd = false;
};

const onSmallDisk =
  (run: (context: FaultContext, node: ChaosNode) => Promise<void>) =>
  (context: FaultContext): Promise<boolean> =>
    withVictim(context.cluster.nodes.find(({ disk }) => disk !== null) ?? null, (node) => run(context, node));

const flip = async (context: FaultContext): Promise<boolean> => {
  const { cluster, rng, say, problem } = context;
  const led = await cluster.leader(RECORD_TOPIC, 0);
  const followers = free(cluster).filter((node) => node !== led);
  if (followers.length === 0) return false;
  let done = false;
  await withVictim(followers[randomBelow(rng, followers.length)], async (node) => {
    await node.process.stop(randomChance(rng, 0.5) ? 'SIGKILL' : 'SIGTERM');
    const flipped = flipBytes(node.dataDir, rng);
    done = flipped.length > 0;
    for (const { file, position, bytes } of flipped)
      say(`${node.name} restarts with ${bytes} flipped bytes at ${position} of ${file}`);
    const { problems } = verifyDataDirectory(nodeFileSystem, node.dataDir);
    for (const { file } of flipped)
      if (!problems.some((found) => found.severity === 'damage' && found.file === file))
        problem(`the offline check finds nothing wrong with ${file} after bytes were flipped`);
    const logBefore = cluster.logOf(node).length;
    node.process.start();
    await untilRepaired(context, node);
    const said = cluster.logOf(node).slice(logBefore);
    if (done && !(said.includes('is damaged') && said.includes('has been repaired')))
      problem(`${node.name} did not say that its log was damaged and has been repaired`);
  });
  return done;
};

/** Ready, and the offline check, which may look at a directory in use, finds no damage. */
const untilRepaired = async ({ cluster, sleep, problem, say }: FaultContext, node: ChaosNode): Promise<void> => {
  let said = '';
  const watch = setInterval(() => {
    void node.failedChecks().then((failed) => {
      if (failed.includes('damaged') && said === '') say(`${node.name} says: ${(said = failed)}`);
    });
  }, 25);
  try {
    await cluster.ready(READY_MS_MAX, [node]);
  } finally {
    clearInterval(watch);
  }
  const countdown = new Countdown(READY_MS_MAX);
  for (;;) {
    const damage = verifyDataDirectory(nodeFileSystem, node.dataDir).problems.filter(
      ({ severity }) => severity === 'damage',
    );
    if (damage.length === 0) return;
    if (countdown.isOver) {
      const [{ file, what }] = damage;
      problem(`${node.name} has not repaired ${file} after ${READY_MS_MAX} ms: ${what}`);
      return;
    }
    await sleep(500);
  }
};

const fault = (kind: string, run: Fault['run'], { alone = false, needsSmallDisk = false } = {}): Fault => ({
  kind,
  alone,
  needsSmallDisk,
  run,
});

/** Every kind of fault, in the order in which a quick run deals them. */
export const FAULTS: readonly Fault[] = [
  fault('kill -9 of a leader', async (context) => withVictim(await leader(context), (node) => kill(context, node))),
  fault('partition', async (context) =>
    withVictim(await oftenLeader(context), (node) =>
      cut(context, [...cutOut(context, node), ...cutIn(context, node)], [node.id]),
    ),
  ),
  fault('flipped bytes', flip, { alone: true }),
  fault('stopped process', async (context) => withVictim(await oftenLeader(context), (node) => pause(context, node))),
  fault('leader that wakes up cut off', async (context) =>
    withVictim(await leader(context), (node) => wakeCutOff(context, node)),
  ),
  fault('nearly full disk', onSmallDisk(fillNearly), { alone: true, needsSmallDisk: true }),
  fault('one-way partition, outgoing', async (context) =>
    withVictim(await oftenLeader(context), (node) => cut(context, cutOut(context, node), [node.id])),
  ),
  fault(
    'kill -9 of all',
    async (context) => {
      const { cluster, say, sleep } = context;
      say('all nodes are killed at once');
      await Promise.all(cluster.nodes.map(({ process }) => process.stop('SIGKILL')));
      await sleep(span(context, 300, 2000));
      await startAgain(context, cluster.nodes);
      return true;
    },
    { alone: true },
  ),
  fault('one-way partition, incoming', async (context) =>
    withVictim(await oftenLeader(context), (node) => cut(context, cutIn(context, node), [node.id])),
  ),
  fault('full disk', onSmallDisk(fillUp), { alone: true, needsSmallDisk: true }),
  fault('slow network', async (context) =>
    withVictim(anyNode(context), async (node) => {
      const { cluster, rng, say, sleep } = context;
      const delayMs = 20 + randomBelow(rng, 400);
      const slowMs = span(context, 2000, 8000);
      say(`everything from and to ${node.name} takes ${delayMs} ms longer, for ${slowMs} ms`);
      const links = others(context, node).flatMap((id) => [
        cluster.network.link(node.id, id),
        cluster.network.link(id, node.id),
      ]);
      for (const link of links) link.delayMs = delayMs;
      try {
        await sleep(slowMs);
      } finally {
        for (const link of links) link.delayMs = 0;
      }
    }),
  ),
  fault('partition of a pair', cutPair(true)),
  fault('reset connections', async (context) =>
    withVictim(anyNode(context), async (node) => {
      const { cluster, rng, say, sleep } = context;
      const resets = 1 + randomBelow(rng, 4);
      say(`connections of ${node.name} are reset ${resets} times`);
      for (let i = 0; i < resets; i++) {
        cluster.network.reset(node.id);
        await sleep(span(context, 200, 1500));
      }
    }),
  ),
  fault('kill -9', async (context) => withVictim(anyNode(context), (node) => kill(context, node))),
  fault('one-way partition of a pair', cutPair(false)),
  fault(
    'everybody alone',
    async (context) => {
      const { nodes } = context.cluster;
      const ways = nodes.flatMap((a) => nodes.filter((b) => a !== b).map((b): Way => [a.id, b.id]));
      await cut(
        context,
        ways,
        nodes.map(({ id }) => id),
      );
      return true;
    },
    { alone: true },
  ),
];
