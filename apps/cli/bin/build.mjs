// Compiles apps, libs and test from TypeScript to dist with SWC (types are checked by `npm run check`).
// `--if-needed` compiles only the files that are newer than what was compiled from them.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, existsSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const ifNeeded = process.argv.includes('--if-needed');
const out = join(root, 'dist');
const sources = [];
const walk = (dir) => {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) walk(path);
    else if (entry.name.endsWith('.ts') && !/\.(spec|d)\.ts$/.test(entry.name)) sources.push(path);
  }
};
for (const top of ['libs', 'apps', 'test']) if (existsSync(join(root, top))) walk(join(root, top));

const target = (source) => join(out, relative(root, source)).replace(/\.ts$/, '.js');
const stale = (source) => {
  try {
    return statSync(target(source)).mtimeMs < statSync(source).mtimeMs;
  } catch {
    return true;
  }
};
if (!ifNeeded) rmSync(out, { recursive: true, force: true });
const work = ifNeeded ? sources.filter(stale) : sources;
if (work.length > 0) {
  // A production image has no compiler: dist is built before and nothing is stale.
  const { transformFile } = await import('@swc/core');
  const config = JSON.parse(readFileSync(join(root, '.swcrc'), 'utf8'));
  const one = async (source) => {
    const { code, map } = await transformFile(source, {
      ...config,
      swcrc: false,
      filename: source,
      sourceFileName: source,
    });
    const file = target(source);
    mkdirSync(dirname(file), { recursive: true });
    const name = file.split(sep).pop();
    if (map) writeFileSync(`${file}.map`, map);
    writeFileSync(file, `${code}\n//# sourceMappingURL=${name}.map\n`);
  };
  const queue = [...work];
  const worker = async () => {
    for (let source = queue.pop(); source; source = queue.pop()) await one(source);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  process.stderr.write(`compiled ${work.length} files\n`);
}
