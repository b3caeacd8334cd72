import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { median, quantile, type Benchmark, type Contender, type Sample } from './bench.js';
import { chartOf } from './chart.js';
import { jsonOf, resultOf, tableOf } from './result.js';
import { requestKey, tidelineGets } from './wrk-requests.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The program as users start it, but for npm. */
const bench = (
  ...args: string[]
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      [join(root, 'dist', 'test', 'bench', 'main.js'), ...args],
      { cwd: root, timeout: 60_000, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr }),
    );
  });

beforeAll(
  () =>
    new Promise<void>((resolve, reject) => {
      execFile(process.execPath, [join(root, 'apps/cli/bin/build.mjs'), '--if-needed'], (error) =>
        error ? reject(error) : resolve(),
      );
    }),
  60_000,
);

const SHORT = ['--first', '--seconds', '1', '--runs', '1', '--json'];

interface Answer {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly ratio: number | null;
  readonly runs: readonly { readonly ours: Sample; readonly peer: Sample | null }[];
}

describe('the benchmark program', () => {
  test('without a name lists every benchmark of the issue', async () => {
    const { code, stdout } = await bench();
    expect(code).toBe(0);
    const names = ['put-rest', 'get-rest', 'put-native', 'get-native', 'append-batches', 'nest-tcp', 'tail', 'replay'];
    for (const name of [...names, 'memory', 'scan', 'ttl-churn', 'growth']) expect(stdout).toContain(`  ${name} `);
  });

  test('ends with 2 and names what there is when it is asked for what there is not', async () => {
    const unknown = await bench('put-carrier-pigeon');
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain('put-native');
    const wrongCase = await bench('put-native', '--case', '3 in flight');
    expect(wrongCase.code).toBe(2);
    expect(wrongCase.stderr).toContain('256 in flight');
    expect((await bench('put-native', '--vs', 'paper')).code).toBe(2);
  });

  test('measures three nodes beside the bare loop for a moment and says what each process used', async () => {
    const { code, stdout, stderr } = await bench('put-native', ...SHORT, '--vs', 'bare');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const answer = JSON.parse(stdout) as Answer;
    expect(answer.name).toBe('put-native');
    expect(answer.ratio).toBeCloseTo(answer.ours / answer.peer!, 6);
    expect(answer.runs).toHaveLength(1);
    const processes = ['servers', 'leader', 'follower-1', 'follower-2', 'load'];
    expect(Object.keys(answer.runs[0].ours.cpuUs!)).toEqual(processes);
    expect(Object.keys(answer.runs[0].peer!.cpuUs!)).toEqual(processes);
  }, 90_000);

  test.each(['tail', 'replay'])(
    'measures %s for a moment',
    async (name) => {
      const { code, stdout } = await bench(name, ...SHORT);
      expect(code).toBe(0);
      expect((JSON.parse(stdout) as Answer).ours).toBeGreaterThan(0);
    },
    90_000,
  );
});

describe('a result', () => {
  const benchmark: Benchmark = {
    name: 'walk',
    unit: 'steps/s',
    higherIsBetter: true,
    summary: '',
    cases: [''],
    peers: ['etcd'],
    ours: () => Promise.reject(new Error('not started')),
  };
  const contender = (description: string): Contender => ({
    description,
    run: () => Promise.resolve({ value: 0 }),
    stop: () => Promise.resolve(),
  });
  const sides = { ours: contender('us'), peer: contender('them'), peerName: 'etcd' as const };
  const runs = [
    { ours: { value: 10, p50Ms: 1, cpuUs: { leader: 3 } }, peer: { value: 5 } },
    { ours: { value: 30, p50Ms: 3, cpuUs: { leader: 5 } }, peer: { value: 5 } },
    { ours: { value: 20, p50Ms: 2, cpuUs: { leader: 4 } }, peer: { value: 20 } },
  ];

  test('is the medians of its runs, and the ratio that of the pairs', () => {
    const result = resultOf(benchmark, '', sides, runs);
    expect(result).toMatchObject({ ours: 20, peer: 5, ratio: 2 });
    expect(result.details.ours).toMatchObject({ min: 10, max: 30, p50Ms: 2, cpuUs: { leader: 4 } });
    expect(tableOf(result)).toContain('ratio ours / peer, median of 3 pairs: 2.00');
  });

  test('is one JSON object, whatever the number of cases', () => {
    const [one, other] = ['a', 'b'].map((which) => resultOf(benchmark, which, sides, runs));
    const parsed = JSON.parse(jsonOf([one, other], { seconds: 1 })) as Answer & { cases: unknown[]; seconds: number };
    expect(parsed).toMatchObject({ name: 'walk', unit: 'steps/s', ours: 20, peer: 5, ratio: 2, seconds: 1 });
    expect(parsed.cases).toHaveLength(2);
  });

  test('is drawn with both sides to one scale', () => {
    const svg = chartOf([resultOf(benchmark, 'up & down', sides, runs)], 'a machine');
    expect(svg).toContain('walk, up &#38; down');
    expect(svg).toContain('2.00 × etcd');
    // 20 and 5 steps/s: the longer bar fills the panel, the other a quarter of it.
    expect(svg).toMatch(/width="330\.0"[^]*width="82\.5"/);
  });

  test('takes medians and quantiles as the textbook does', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([5, 1, 3], 0.5)).toBe(3);
    expect(quantile([], 0.5)).toBeNaN();
  });
});

test('requests for wrk are spread over all keys and written out whole', () => {
  expect(requestKey(1)).toBe('bench-key-0000000100');
  expect(tidelineGets('?consistency=stale')).toContain(
    '"GET /v1/views/default/entries/bench-key-0000000100?consistency=stale HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n"',
  );
});
