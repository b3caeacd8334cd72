import { TidelineClient } from '#client';
import { FULL_SIZE_SECONDS, median, type Benchmark, type BenchmarkSettings, type Contender } from '../bench.js';
import { startTideline, TIDELINE_DESCRIPTION, type TidelineCluster } from '../tideline-cluster.js';

/**
 * The leader is killed with SIGKILL under acknowledged writes, several times a run; what counts is the time in which none was acknowledged. The
 * killed node is started again and caught up before the next.
 */
const KILLS = 7;
const IN_FLIGHT = 16;
const VALUE = 'v'.repeat(100);
const KEYS = 10_000;
/** The default of the option election-timeout-ms. */
const ELECTION_TIMEOUT_MS = 1000;
/** Writes that are acknowledged before each kill, and after the gap. */
const CALM_MS = 1000;
const GAP_MS_MAX = 30_000;
const POLL_MS = 5;
const REST_ATTEMPT_MS_MAX = 4_000;
const REST_PAUSE_MS = 10;

const SDK = 'SDK';
const REST = 'REST with retries';

/** A write that goes on until it is acknowledged. */
type Put = (n: number, worker: number) => Promise<unknown>;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Writes without end, and when they were acknowledged. */
class Writers {
  lastAck = performance.now();
  /** Longest time between two acknowledgements since it was set to 0. */
  longestMs = 0;
  acknowledged = 0;
  failed = 0;
  private running = true;
  private readonly workers: Promise<void>[];

  constructor(private readonly put: Put) {
    this.workers = Array.from({ length: IN_FLIGHT }, (_, i) => this.work(i));
  }

  private async work(worker: number): Promise<void> {
    for (let n = worker; this.running; n += IN_FLIGHT) {
      try {
        await this.put(n % KEYS, worker);
      } catch {
        this.failed++;
        await pause(REST_PAUSE_MS);
        continue;
      }
      const now = performance.now();
      this.longestMs = Math.max(this.longestMs, now - this.lastAck);
      this.lastAck = now;
      this.acknowledged++;
    }
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
  }
}

const killLeader = async (cluster: TidelineCluster, writers: Writers): Promise<number> => {
  await pause(CALM_MS);
  const leader = cluster.launcher.processes[await cluster.leaderIndex('default')];
  const before = writers.acknowledged;
  writers.longestMs = 0;
  writers.lastAck = performance.now();
  await leader.stop('SIGKILL');
  const killed = performance.now();
  // Answers that were on their way when it was killed are not the end of the gap: writes go on when many have been acknowledged.
  while (writers.acknowledged - before < 10 * IN_FLIGHT || performance.now() - killed < CALM_MS) {
    if (performance.now() - killed > GAP_MS_MAX) throw new Error(`no writes for ${GAP_MS_MAX} ms after a kill`);
    await pause(POLL_MS);
  }
  const gapMs = writers.longestMs;
  leader.start();
  await cluster.launcher.ready();
  return gapMs;
};

/** As a careful user writes it: the same request, with its key, to the next gateway until it is acknowledged. */
const restPut =
  (gateways: readonly string[], run: string): Put =>
  async (n, worker) => {
    const headers = { 'idempotency-key': `${run}-${worker}-${n}-${performance.now()}` };
    for (let i = worker; ; i++) {
      try {
        const response = await fetch(`http://${gateways[i % gateways.length]}/v1/views/default/entries/bench-${n}`, {
          method: 'PUT',
          body: VALUE,
          headers,
          signal: AbortSignal.timeout(REST_ATTEMPT_MS_MAX),
        });
        await response.arrayBuffer();
        if (response.ok) return;
      } catch {
        // Refused, reset or too slow: the next one.
      }
      await pause(REST_PAUSE_MS);
    }
  };

const contender = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const cluster = await startTideline(directory);
  const client = which === SDK ? await TidelineClient.connect({ addresses: cluster.addresses }) : null;
  const gateways = cluster.launcher.gateways.map(({ httpAddress }) => httpAddress);
  const put: Put = client ? (n) => client.set('default', `bench-${n}`, VALUE) : restPut(gateways, String(process.pid));
  return {
    description: TIDELINE_DESCRIPTION,
    run: async (seconds) => {
      const writers = new Writers(put);
      const gaps: number[] = [];
      try {
        for (let i = seconds < FULL_SIZE_SECONDS ? KILLS - 1 : 0; i < KILLS; i++)
          gaps.push(await killLeader(cluster, writers));
      } finally {
        await writers.stop();
      }
      const value = median(gaps);
      return {
        value,
        also: {
          kills: gaps.length,
          'shortest gap ms': Math.min(...gaps),
          'longest gap ms': Math.max(...gaps),
          'median, election timeouts': value / ELECTION_TIMEOUT_MS,
          'failed writes': writers.failed,
        },
      };
    },
    warmUp: () => pause(CALM_MS),
    stop: async () => {
      await client?.close();
      await cluster.stop();
    },
  };
};

export const leaderKill: Benchmark = {
  name: 'leader-kill',
  unit: 'ms without an acknowledged write',
  higherIsBetter: false,
  summary: 'the leader killed under load: the median gap in acknowledged writes',
  cases: [SDK, REST],
  peers: [],
  ours: contender,
};
