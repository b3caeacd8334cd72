import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { SERVER_NODE_FLAGS } from './cluster-launcher.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

test('every way to start a server gives Node the same flags', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  expect(scripts['start']).toContain(`node ${SERVER_NODE_FLAGS.join(' ')} apps/cli/bin/tideline.cjs`);
  expect(read('apps/cli/bin/tideline.cjs').split('\n')[0]).toBe(
    `#!/usr/bin/env -S node ${SERVER_NODE_FLAGS.join(' ')}`,
  );
  expect(read('Dockerfile')).toContain(
    `ENTRYPOINT [${['node', ...SERVER_NODE_FLAGS].map((flag) => JSON.stringify(flag)).join(', ')}]`,
  );
});
