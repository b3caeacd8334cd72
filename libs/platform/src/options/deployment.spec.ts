import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { formatAddress } from './address.js';
import { APPS, OPTION_NAMES, type AppName } from './option-table.js';
import { optionsMarkdown } from './options-help.js';
import { envOf, loadOptions, type TidelineOptions } from './options.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Service {
  readonly image?: string;
  readonly command?: readonly string[];
  readonly hostname?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

describe('docker-compose.yml', () => {
  const compose = parse(read('docker-compose.yml'), { merge: true }) as ComposeFile;
  const ours = Object.entries(compose.services).filter(([, service]) => service.image === 'tideline');

  /** What docker compose does to `${NAME:-default}` when NAME is not set. */
  const environmentOf = (service: Service): Record<string, string> =>
    Object.fromEntries(
      Object.entries(service.environment ?? {}).map(([name, value]) => [
        name,
        value.replace(/\$\{[A-Z_]+:-([^}]*)\}/g, '$1'),
      ]),
    );

  const optionsOf = (name: string, service: Service): TidelineOptions => {
    const app = /^dist\/apps\/([a-z-]+)\/src\/main\.js$/.exec(service.command?.[0] ?? '')?.[1];
    expect(APPS).toContain(app);
    return loadOptions({ app: app as AppName, argv: [], env: environmentOf(service), cwd: '/app', hostname: name });
  };

  const options = new Map(ours.map(([name, service]) => [name, optionsOf(name, service)]));
  const named = (app: AppName) => [...options].filter(([, value]) => value.app === app);

  test('is the production shape', () => {
    expect(named('raft-log')).toHaveLength(3);
    expect(named('materializer')).toHaveLength(2);
    expect(named('gateway')).toHaveLength(1);
    expect(compose.services.catalog.image).toMatch(/^postgres:/);
  });

  test('uses options that exist', () => {
    const known = new Set(OPTION_NAMES.map((name) => envOf(name)));
    for (const [, service] of ours) {
      const used = Object.keys(service.environment ?? {});
      expect(used.filter((name) => !known.has(name))).toEqual([]);
    }
  });

  test('gives every service an id of its own and one cluster', () => {
    const all = [...options.values()];
    expect(new Set(all.map((value) => value.nodeId)).size).toBe(all.length);
    expect(new Set(all.map((value) => value.clusterName)).size).toBe(1);
  });

  test('names services where they are', () => {
    const addresses = (app: AppName, port: 'logPort' | 'peerPort' | 'viewPort') =>
      named(app).map(([name, value]) => formatAddress({ host: name, port: value[port] }));
    for (const [name, value] of named('raft-log')) {
      expect(value.peers.map(formatAddress)).toEqual(addresses('raft-log', 'peerPort'));
      expect(value.advertiseHost).toBe(name);
    }
    for (const [, value] of [...named('materializer'), ...named('gateway')]) {
      expect(value.logNodes.map(formatAddress)).toEqual(addresses('raft-log', 'logPort'));
    }
    for (const [, value] of named('gateway')) {
      expect(value.materializers.map(formatAddress)).toEqual(addresses('materializer', 'viewPort'));
    }
    for (const [, value] of named('materializer')) {
      const url = new URL(value.catalogUrl);
      const { POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD } = environmentOf(compose.services.catalog);
      expect([url.hostname, url.username, url.password, url.pathname.slice(1)]).toEqual([
        'catalog',
        POSTGRES_USER,
        POSTGRES_PASSWORD,
        POSTGRES_DB,
      ]);
    }
  });

  test('depends on services and uses volumes that are there, and publishes the gateway to this machine only', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      for (const other of Object.keys(service.depends_on ?? {})) expect(compose.services).toHaveProperty([other]);
      for (const volume of service.volumes ?? []) expect(compose.volumes).toHaveProperty([volume.split(':')[0]]);
      expect(service.ports?.length ?? 0).toBe(name === 'gateway' ? 3 : 0);
      for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
      if (service.hostname !== undefined) expect(service.hostname).toBe(name);
    }
  });
});

describe('the image', () => {
  test('sets options that exist, and exposes the ports of the table', () => {
    const dockerfile = read('Dockerfile');
    const known = new Set<string>(OPTION_NAMES.map((name) => envOf(name)));
    const used = dockerfile.match(/TIDELINE_[A-Z_]+(?=[=|])/g) ?? [];
    expect(used.length).toBeGreaterThan(0);
    expect(used.filter((name) => !known.has(name))).toEqual([]);
    const defaults = loadOptions({ app: 'standalone', argv: [], env: {}, cwd: root, readFile: () => '' });
    const { httpPort, nativePort, nestPort, respPort, grpcPort, logPort, peerPort, viewPort } = defaults;
    const ports = [httpPort, nativePort, nestPort, respPort, grpcPort, logPort, peerPort, viewPort];
    expect(/^EXPOSE (.*)$/m.exec(dockerfile)?.[1].split(' ').map(Number)).toEqual(ports);
  });
});

describe('docs/operations.md', () => {
  test('lists the options as the table has them', () => {
    const document = read('docs/operations.md');
    const [, listed] = document.split(/<!-- options(?: end)? -->\n/);
    // To bring it up to date: npm run build && node dist/libs/platform/src/options/write-operations.js
    expect(listed).toBe(optionsMarkdown());
  });
});

describe('docs/dependencies.md', () => {
  test('has a line for every dependency', () => {
    const document = read('docs/dependencies.md');
    const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<
      string,
      Record<string, string>
    >;
    for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
      expect(document).toContain(`\`${name}\``);
    }
  });
});
