/** Brings the options in docs/operations.md up to date: node dist/libs/platform/src/options/write-operations.js */
import { readFileSync, writeFileSync } from 'node:fs';
import { optionsMarkdown } from './options-help.js';

const FILE = 'docs/operations.md';
const SECTION = /(<!-- options -->\n)[^]*(<!-- options end -->\n)/;

const document = readFileSync(FILE, 'utf8');
writeFileSync(
  FILE,
  document.replace(SECTION, (_, begin: string, end: string) => begin + optionsMarkdown() + end),
);
