import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { play } from './scenario.js';

// REWRITE=1 writes what happens into the files; the difference is then reviewed like any other.
const folder = dirname(fileURLToPath(import.meta.url));
const rewrite = process.env.REWRITE === '1';

for (const file of readdirSync(folder).filter((name) => name.endsWith('.txt'))) {
  test(`scenario: ${file.replace(/\.txt$/, '').replaceAll('-', ' ')}`, () => {
    const path = join(folder, file);
    const expected = readFileSync(path, 'utf8');
    const actual = play(expected);
    if (rewrite) writeFileSync(path, actual);
    else expect(actual).toBe(expected);
  });
}

test('a command that does not exist is an error', () => {
  expect(() => play('> fly 1')).toThrow(/unknown command/);
});
