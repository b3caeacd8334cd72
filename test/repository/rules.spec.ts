import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The rules that `npm run check` enforces, tried on a small tree that breaks them. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
let tree = '';

const write = (path: string, text: string): void => {
  const file = join(tree, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
};

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'tideline-rules-'));
  for (const file of ['.dependency-cruiser.cjs', '.oxlintrc.json', 'tsconfig.json', 'package.json'])
    cpSync(join(root, file), join(tree, file));
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  for (const folder of ['apps', 'libs', 'test']) mkdirSync(join(tree, folder));
});

afterAll(() => rmSync(tree, { recursive: true, force: true }));

const run = (program: string, args: readonly string[]): { status: number | null; said: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'node_modules', program), ...args], {
    cwd: tree,
    encoding: 'utf8',
  });
  return { status, said: stdout + stderr };
};

const cruise = (): { status: number | null; said: string } =>
  run('dependency-cruiser/bin/dependency-cruise.mjs', ['--config', '.dependency-cruiser.cjs', 'apps', 'libs', 'test']);

describe('the import table', () => {
  const breaking: Record<string, { files: Record<string, string>; rule: string }> = {
    'views that import the network': {
      files: {
        'libs/views/src/index.ts': "import '../../net/src/index.js';\n",
        'libs/net/src/index.ts': 'export const net = 1;\n',
      },
      rule: 'libs-views',
    },
    'a library that imports an app': {
      files: {
        'libs/wire/src/index.ts': "import '../../../apps/gateway/src/index.js';\n",
        'apps/gateway/src/index.ts': 'export const gateway = 1;\n',
      },
      rule: 'libs-wire',
    },
    'an app that imports another': {
      files: {
        'apps/gateway/src/index.ts': "import '../../raft-log/src/index.js';\n",
        'apps/raft-log/src/index.ts': 'export const log = 1;\n',
      },
      rule: 'apps-gateway',
    },
    'code that imports a test': {
      files: {
        'libs/kernel/src/index.ts': "import '../../../test/support/thing.js';\n",
        'test/support/thing.ts': 'export const thing = 1;\n',
      },
      rule: 'nobody-imports-test',
    },
    'Nest in the storage': {
      files: { 'libs/storage/src/index.ts': "import '@nestjs/common';\n" },
      rule: 'nest-only-at-the-edges',
    },
    'a Node module in the consensus core': {
      files: { 'libs/raft/src/index.ts': "import 'node:fs';\n" },
      rule: 'raft-is-pure',
    },
    'a file behind another library’s index': {
      files: {
        'libs/replica/src/index.ts': "import '../../raft/src/inner.js';\n",
        'libs/raft/src/inner.ts': 'export const inner = 1;\n',
      },
      rule: 'through-the-public-index',
    },
  };

  test('every broken rule is named and fails the check', () => {
    const all = Object.values(breaking).flatMap(({ files }) => Object.entries(files));
    for (const [path, text] of all) write(path, text);
    const { status, said } = cruise();
    for (const [path] of all) rmSync(join(tree, path), { force: true });
    for (const [what, { rule }] of Object.entries(breaking))
      expect([what, said]).toEqual([what, expect.stringContaining(`error ${rule}:`)]);
    expect(status).not.toBe(0);
  }, 60_000);

  test('a tree that keeps to it passes', () => {
    write('libs/views/src/index.ts', "import '../../kernel/src/index.js';\n");
    write('libs/kernel/src/index.ts', 'export const kernel = 1;\n');
    expect(cruise()).toMatchObject({ status: 0 });
  }, 60_000);
});

describe('lint in the consensus core', () => {
  const forbidden: Record<string, string> = {
    'the clock': 'export const now = (): number => Date.now();\n',
    randomness: 'export const lot = (): number => Math.random();\n',
    'a timer': 'export const later = (): void => void setTimeout(() => undefined, 1);\n',
    'a promise': 'export const soon = (): unknown => Promise.resolve();\n',
    'an async function': 'export const slow = async (): Promise<void> => undefined;\n',
    'a Node module': "import { readFileSync } from 'node:fs';\nexport const read = readFileSync;\n",
  };

  for (const [what, text] of Object.entries(forbidden)) {
    test(`${what} is refused`, () => {
      write('libs/raft/src/thing.ts', text);
      const { status, said } = run('oxlint/bin/oxlint', ['--deny-warnings', 'libs/raft']);
      expect(said).toContain('thing.ts');
      expect(status).not.toBe(0);
    });

    test(`${what} is not refused elsewhere`, () => {
      rmSync(join(tree, 'libs/raft'), { recursive: true, force: true });
      write('libs/storage/src/thing.ts', text);
      const { said } = run('oxlint/bin/oxlint', ['--deny-warnings', 'libs/storage']);
      expect(said).toContain('0 errors');
    });
  }
});
