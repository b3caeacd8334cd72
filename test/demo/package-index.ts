import { spawn } from 'node:child_process';
import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';

/** A package as the index has it: its fields by name, those of lists taken apart. */
export interface Package {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly section: string;
  readonly maintainer: string;
  readonly description: string;
  readonly installedKiB: number;
  readonly depends: readonly string[];
  readonly tags: readonly string[];
}

const LISTS = '/var/lib/apt/lists';
/** Reads what apt keeps packed (lz4, zstd, xz …) as text. */
const APT_HELPER = '/usr/lib/apt/apt-helper';

/** Key of a package: an index may have a name in several versions. */
export const keyOfPackage = ({ name, architecture, version }: Package): string => `${name}:${architecture}=${version}`;

const listOf = (text: string | undefined): string[] =>
  (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

/** One stanza of a Packages file (deb822): `Field: text`, lines that go on begin with a space. Null: it is no package. */
export const packageOf = (lines: readonly string[]): Package | null => {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of lines) {
    if (/^[ \t]/.test(line)) {
      fields.set(last, `${fields.get(last) ?? ''}\n${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    last = line.slice(0, colon).toLowerCase();
    fields.set(last, line.slice(colon + 1).trim());
  }
  const name = fields.get('package');
  const version = fields.get('version');
  if (name === undefined || version === undefined) return null;
  return {
    name,
    version,
    architecture: fields.get('architecture') ?? 'all',
    section: fields.get('section') ?? 'unknown',
    maintainer: fields.get('maintainer') ?? 'unknown',
    description: (fields.get('description') ?? '').split('\n')[0],
    installedKiB: Number(fields.get('installed-size') ?? 0),
    depends: listOf(fields.get('depends')),
    tags: listOf(fields.get('tag')?.replaceAll('\n', ' ')),
  };
};

/** The packages of a Packages file. */
export const packagesOf = async (text: Readable, limit = Number.POSITIVE_INFINITY): Promise<Package[]> => {
  const packages: Package[] = [];
  let stanza: string[] = [];
  const end = (): void => {
    const found = stanza.length === 0 ? null : packageOf(stanza);
    if (found !== null && packages.length < limit) packages.push(found);
    stanza = [];
  };
  for await (const line of createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line === '') end();
    else stanza.push(line);
    if (packages.length >= limit) break;
  }
  end();
  return packages;
};

/** Text of a command; null when it cannot be run. */
const outputOf = async (command: string, args: readonly string[], limit: number): Promise<Package[] | null> => {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const failed = new Promise<null>((resolve) => {
    child.once('error', () => resolve(null));
  });
  const packages = await Promise.race([failed, packagesOf(child.stdout, limit)]);
  child.kill();
  return packages;
};

const fileOf = (path: string, limit: number): Promise<Package[] | null> => {
  if (path.endsWith('_Packages')) return packagesOf(createReadStream(path), limit);
  if (path.endsWith('.gz')) return packagesOf(createReadStream(path).pipe(createGunzip()), limit);
  return outputOf(APT_HELPER, ['cat-file', path], limit);
};

export interface PackageIndex {
  readonly from: string;
  readonly packages: readonly Package[];
}

/** The package index of this machine: as apt-cache tells it, else from apt's files. Null: there is none. */
export const readPackageIndex = async (limit: number): Promise<PackageIndex | null> => {
  const told = await outputOf('apt-cache', ['dumpavail'], limit);
  if (told !== null && told.length > 0) return { from: 'apt-cache dumpavail', packages: told };
  if (!existsSync(LISTS)) return null;
  const packages: Package[] = [];
  for (const name of readdirSync(LISTS).filter((one) => /_Packages(\.\w+)?$/.test(one))) {
    packages.push(...((await fileOf(join(LISTS, name), limit - packages.length)) ?? []));
  }
  return packages.length === 0 ? null : { from: `${LISTS}/*_Packages`, packages };
};

/** The packages of one file, plain or packed. */
export const readPackageFile = async (path: string, limit: number): Promise<PackageIndex | null> => {
  if (!existsSync(path)) return null;
  const packages = await fileOf(path, limit);
  return packages === null || packages.length === 0 ? null : { from: path, packages };
};
