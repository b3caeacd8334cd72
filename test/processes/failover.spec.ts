import { afterEach, describe, expect, test } from '@jest/globals';
import { TidelineClient } from '#client';
import { RunningStopwatch } from '../support/running-stopwatch.js';
import { startRealCluster, type RealCluster } from '../support/real-cluster.js';

/** Real processes, real disks, SIGKILL. */
let cluster: RealCluster | null = null;
let client: TidelineClient | null = null;

afterEach(async () => {
  await client?.close();
  await cluster?.stop();
  client = null;
  cluster = null;
}, 60_000);

const entryUrl = (address: string, key: string): string => `http://${address}/v1/views/default/entries/${key}`;

/** Keeps `inFlight` puts under way until told to stop; remembers what was acknowledged and the longest pause between acknowledgements. */
class Load {
  readonly acknowledged = new Map<string, string>();
  readonly errors: unknown[] = [];
  private next = 0;
  private running = true;
  private readonly sinceAck = new RunningStopwatch();
  gapMs = 0;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly target: TidelineClient,
    inFlight: number,
  ) {
    this.workers = Array.from({ length: inFlight }, () => this.work());
  }

  private async work(): Promise<void> {
    while (this.running) {
      const n = this.next++;
      const key = `key-${n}`;
      try {
        await this.target.set('default', key, `value-${n}`);
      } catch (error) {
        if (this.running) this.errors.push(error);
        continue;
      }
      this.gapMs = Math.max(this.gapMs, this.sinceAck.ms);
      this.sinceAck.restart();
      this.acknowledged.set(key, `value-${n}`);
    }
  }

  resetGap(): void {
    this.gapMs = 0;
    this.sinceAck.restart();
  }

  async until(acknowledged: number): Promise<void> {
    while (this.acknowledged.size < acknowledged) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** No more operations are begun; those under way are waited for. */
  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
    this.sinceAck.close();
  }
}

const expectAllThere = async (acknowledged: ReadonlyMap<string, string>): Promise<void> => {
  const entries = [...acknowledged.entries()];
  for (let i = 0; i < entries.length; i += 256) {
    const found = await Promise.all(
      entries.slice(i, i + 256).map(async ([key]) => (await client!.get('default', key))?.value.toString()),
    );
    expect(found).toEqual(entries.slice(i, i + 256).map(([, value]) => value));
  }
};

describe('three nodes', () => {
  test('any node takes any request', async () => {
    cluster = await startRealCluster();
    const gateways = cluster.launcher.gateways;
    for (const [i, gateway] of gateways.entries()) {
      const put = await fetch(entryUrl(gateway.httpAddress, `from-${i}`), { method: 'PUT', body: `value ${i}` });
      expect(put.status).toBeLessThan(300);
      for (const other of gateways)
        expect(await (await fetch(entryUrl(other.httpAddress, `from-${i}`))).text()).toBe(`value ${i}`);
    }
  }, 90_000);

  test('the leader killed under load: nothing acknowledged is lost, no error is shown, and writes go on within 2 s', async () => {
    cluster = await startRealCluster();
    client = await TidelineClient.connect({ addresses: cluster.addresses });
    const load = new Load(client, 32);
    await load.until(2000);
    const leader = await cluster.leader('default');
    load.resetGap();
    leader.kill('SIGKILL');
    await load.until(load.acknowledged.size + 2000);
    await load.stop();
    expect(load.errors).toEqual([]);
    expect(load.gapMs).toBeLessThanOrEqual(2000);
    await expectAllThere(load.acknowledged);

    leader.start();
    await cluster.launcher.ready();
    const own = await fetch(entryUrl(leader.httpAddress, 'key-0'));
    expect(await own.text()).toBe('value-0');
  }, 120_000);

  test('all three killed at once under load and started again: nothing acknowledged is lost', async () => {
    cluster = await startRealCluster();
    client = await TidelineClient.connect({ addresses: cluster.addresses });
    const load = new Load(client, 32);
    await load.until(2000);
    for (const process of cluster.launcher.processes) process.kill('SIGKILL');
    for (const process of cluster.launcher.processes) await process.stop('SIGKILL');
    for (const process of cluster.launcher.processes) process.start();
    await cluster.launcher.ready();
    await load.stop();
    expect(load.acknowledged.size).toBeGreaterThanOrEqual(2000);
    await expectAllThere(load.acknowledged);
  }, 120_000);

  test('an interrupt stops every node cleanly within 5 s', async () => {
    cluster = await startRealCluster();
    const children = cluster.launcher.processes.map((process) => process.child!);
    const stopwatch = new RunningStopwatch();
    await cluster.launcher.stop('SIGINT');
    stopwatch.close();
    expect(stopwatch.ms).toBeLessThan(5000);
    expect(children.map((child) => [child.exitCode, child.signalCode])).toEqual(children.map(() => [0, null]));
  }, 90_000);
});

describe('three log nodes, two materializers, one gateway', () => {
  test('the leader killed under load: nothing acknowledged is lost and no error is shown', async () => {
    cluster = await startRealCluster({ split: true });
    client = await TidelineClient.connect({ addresses: cluster.addresses });
    const load = new Load(client, 32);
    await load.until(2000);
    load.resetGap();
    (await cluster.leader('default')).kill('SIGKILL');
    await load.until(load.acknowledged.size + 2000);
    await load.stop();
    expect(load.errors).toEqual([]);
    expect(load.gapMs).toBeLessThanOrEqual(2000);
    await expectAllThere(load.acknowledged);
  }, 120_000);

  test('a materializer killed: reads go on from the other', async () => {
    cluster = await startRealCluster({ split: true });
    client = await TidelineClient.connect({ addresses: cluster.addresses });
    await client.set('default', 'a', 'before');
    const [first] = cluster.launcher.processes.filter((process) => process.app === 'materializer');
    first.kill('SIGKILL');
    for (let i = 0; i < 20; i++) {
      await client.set('default', 'a', `after ${i}`);
      expect((await client.get('default', 'a'))?.value.toString()).toBe(`after ${i}`);
    }
  }, 120_000);
});
