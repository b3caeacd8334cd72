/**
 * Where the CPU time of profiles went, by function.
 *
 *   node dist/test/bench/profile.js [--top 25] FILE.cpuprofile …
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Profiler } from 'node:inspector';

interface Cost {
  selfMs: number;
  /** With what it calls, counted once in a recursion. */
  totalMs: number;
}

const NOT_WORK = new Set(['(idle)', '(program)', '(root)']);
/** The profiler's own work, which is not looked into. */
const PROFILER = 'test/bench/profiler.js';

const placeOf = ({ functionName, url, lineNumber }: Profiler.ProfileNode['callFrame']): string => {
  const file = url.replace(/^.*\/(node_modules|dist)\//, '').replace(/^file:\/\//, '');
  return `${functionName || '(anonymous)'}${file ? ` ${file}:${lineNumber + 1}` : ''}`;
};

const costsOf = (profile: Profiler.Profile): Map<string, Cost> => {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const selfUs = new Map<number, number>();
  const { samples = [], timeDeltas = [] } = profile;
  for (const [i, id] of samples.entries()) selfUs.set(id, (selfUs.get(id) ?? 0) + (timeDeltas[i] ?? 0));
  const costs = new Map<string, Cost>();
  const add = (place: string, selfMs: number, totalMs: number): void => {
    const cost = costs.get(place);
    if (cost) {
      cost.selfMs += selfMs;
      cost.totalMs += totalMs;
    } else costs.set(place, { selfMs, totalMs });
  };
  const walk = (id: number, above: ReadonlySet<string>): number => {
    const node = nodes.get(id)!;
    const place = placeOf(node.callFrame);
    if (place.includes(PROFILER)) return 0;
    const self = (selfUs.get(id) ?? 0) / 1000;
    const below = above.has(place) ? above : new Set([...above, place]);
    let total = self;
    for (const child of node.children ?? []) total += walk(child, below);
    add(place, self, above.has(place) ? 0 : total);
    return total;
  };
  walk(profile.nodes[0].id, new Set());
  return costs;
};

const main = (): void => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { top: { type: 'string', default: '25' } },
  });
  const all = new Map<string, Cost>();
  for (const file of positionals) {
    for (const [place, { selfMs, totalMs }] of costsOf(JSON.parse(readFileSync(file, 'utf8')) as Profiler.Profile)) {
      const cost = all.get(place) ?? { selfMs: 0, totalMs: 0 };
      all.set(place, { selfMs: cost.selfMs + selfMs, totalMs: cost.totalMs + totalMs });
    }
  }
  const work = [...all].filter(([place]) => !NOT_WORK.has(place));
  const busyMs = work.reduce((sum, [, { selfMs }]) => sum + selfMs, 0);
  const share = (ms: number): string => `${((100 * ms) / busyMs).toFixed(1).padStart(5)} %`;
  console.log(
    `JavaScript ${Math.round(busyMs)} ms, other than that ${Math.round(all.get('(program)')?.selfMs ?? 0)} ms`,
  );
  for (const order of ['selfMs', 'totalMs'] as const) {
    console.log(order === 'selfMs' ? '\n by itself' : '\n with what it calls');
    for (const [place, cost] of work.sort((a, b) => b[1][order] - a[1][order]).slice(0, Number(values.top)))
      console.log(`  ${share(cost[order])}  ${place}`);
  }
};

main();
