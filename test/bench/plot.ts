/**
 * Draws what `npm run bench -- NAME --json` said.
 *
 *   node dist/test/bench/plot.js OUT.svg FILE.json …
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { chartOf } from './chart.js';
import type { CaseResult } from './result.js';

interface Printed extends CaseResult {
  readonly cases?: readonly CaseResult[];
  readonly results?: readonly Printed[];
  readonly machine?: { readonly cpu: string; readonly cores: number; readonly versions: { readonly node: string } };
}

const casesOf = (printed: Printed): readonly CaseResult[] =>
  printed.results?.flatMap(casesOf) ?? printed.cases ?? [printed];

const [out, ...files] = process.argv.slice(2);
if (out === undefined || files.length === 0) {
  console.error('plot OUT.svg FILE.json …');
  process.exitCode = 2;
} else {
  const printed = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Printed);
  const { machine } = printed[0];
  const about = machine ? `${machine.cpu}, ${machine.cores} cores, Node ${machine.versions.node}` : '';
  writeFileSync(out, chartOf(printed.flatMap(casesOf), about));
}
