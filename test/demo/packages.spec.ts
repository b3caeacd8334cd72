import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Readable } from 'node:stream';
import { foldView } from '#views';
import { DebianPackages, maintainerName } from './debian-view.js';
import { keyOfPackage, packagesOf, readPackageFile, type Package } from './package-index.js';
import { gzipSync } from 'node:zlib';
import { writeFileSync } from 'node:fs';

const INDEX = `Package: 0ad
Version: 0.0.26-3
Installed-Size: 28591
Maintainer: Debian Games Team <pkg-games-devel@lists.alioth.debian.org>
Architecture: amd64
Depends: 0ad-data (>= 0.0.26), libc6 (>= 2.34)
Description: Real-time strategy game of ancient warfare
Tag: game::strategy, interface::graphical,
 uitoolkit::sdl, x11::application
Section: games

Package: zstd
Version: 1.5.4+dfsg2-5
Maintainer: RPM packaging team <team+pkg-rpm@tracker.debian.org>
Architecture: amd64
Description: fast lossless compression algorithm -- CLI tool
Section: utils


Garbage: a stanza that is no package

Package: zutils
Version: 1.12-3
Maintainer: Daniel Baumann <daniel.baumann@progress-linux.org>
Architecture: amd64
Description: utilities for dealing with compressed files
 transparently
Section: utils
`;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tideline-index-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('a package index is read stanza by stanza, plain or packed', async () => {
  const packages = await packagesOf(Readable.from([INDEX]));
  expect(packages.map(keyOfPackage)).toEqual(['0ad:amd64=0.0.26-3', 'zstd:amd64=1.5.4+dfsg2-5', 'zutils:amd64=1.12-3']);
  expect(packages[0]).toMatchObject({
    section: 'games',
    installedKiB: 28591,
    depends: ['0ad-data (>= 0.0.26)', 'libc6 (>= 2.34)'],
    tags: ['game::strategy', 'interface::graphical', 'uitoolkit::sdl', 'x11::application'],
  });
  expect(packages[2].description).toBe('utilities for dealing with compressed files');
  const plain = join(directory, 'deb_Packages');
  writeFileSync(plain, INDEX);
  writeFileSync(`${plain}.gz`, gzipSync(INDEX));
  expect((await readPackageFile(plain, 10))!.packages).toEqual(packages);
  expect((await readPackageFile(`${plain}.gz`, 2))!.packages).toEqual(packages.slice(0, 2));
  expect(await packagesOf(createReadStream(plain), 1)).toHaveLength(1);
  writeFileSync(plain, 'nothing');
  expect(await readPackageFile(plain, 10)).toBeNull();
});

test('and folds into a view by section and by maintainer, from which what is announced for a time goes', async () => {
  const packages = await packagesOf(Readable.from([INDEX]));
  const events = packages.map((value) => ({
    key: keyOfPackage(value),
    type: 'package',
    value,
    ...(value.section === 'games' && { ttlMs: 1000 }),
  }));
  const { states, lookup, parked } = foldView<Package>(DebianPackages, [
    ...events,
    { key: events[2].key, type: 'withdrawn', logTime: 10 },
  ]);
  expect(parked).toEqual([]);
  expect([...states.values()]).toEqual(packages.slice(0, 2));
  expect(lookup('section', 'utils')).toEqual([events[1].key]);
  expect(lookup('maintainer', maintainerName(packages[0]))).toEqual([events[0].key]);
  expect([...foldView(DebianPackages, events, { until: 1000 }).states.keys()]).toEqual([events[1].key, events[2].key]);
});
