import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VIEW_DEFAULTS, isTidelineError } from '#kernel';
import { OPTION_NAMES, OPTION_TABLE } from './option-table.js';
import { fallbackText, optionsHelp } from './options-help.js';
import {
  envOf,
  flagOf,
  loadOptions,
  wantsHelp,
  yamlKeyOf,
  type OptionProblem,
  type OptionSources,
  type TidelineOptions,
} from './options.js';

const missing = (path: string): string => {
  throw Object.assign(new Error(`no such file: ${path}`), { code: 'ENOENT' });
};

const load = (sources: Partial<OptionSources> & { yaml?: string } = {}): TidelineOptions =>
  loadOptions({
    app: 'standalone',
    argv: [],
    env: {},
    cwd: '/srv',
    hostname: 'box',
    readFile: sources.yaml === undefined ? missing : () => sources.yaml as string,
    ...sources,
  });

function problemsOf(sources: Partial<OptionSources> & { yaml?: string }): readonly OptionProblem[] {
  try {
    load(sources);
  } catch (error) {
    if (!isTidelineError(error, 'bad-option')) throw error;
    return error.details.problems as OptionProblem[];
  }
  throw new Error('the options were accepted');
}

const only = (sources: Partial<OptionSources> & { yaml?: string }): OptionProblem => {
  const problems = problemsOf(sources);
  expect(problems).toHaveLength(1);
  return problems[0];
};

describe('defaults', () => {
  test('are complete, and ports follow from the base port', () => {
    const options = load();
    expect(options).toMatchObject({
      app: 'standalone',
      dataDir: '/srv/data',
      bind: '127.0.0.1',
      advertiseHost: '127.0.0.1',
      basePort: 7400,
      httpPort: 7400,
      nativePort: 7401,
      nestPort: 7402,
      respPort: 7403,
      grpcPort: 7404,
      logPort: 7410,
      peerPort: 7411,
      viewPort: 7420,
      nodeId: 1,
      peers: [],
      topics: [{ name: 'default', partitions: 1, view: VIEW_DEFAULTS }],
      durability: 'sync',
      electionTimeoutMs: 1000,
      heartbeatMs: 100,
      catalogUrl: 'sqlite:/srv/data/catalog.sqlite',
      segmentBytes: 64 * 1024 * 1024,
      shutdownTimeoutMs: 5000,
      insecure: false,
      configFile: undefined,
    });
    for (const name of OPTION_NAMES) expect(options).toHaveProperty(yamlKeyOf(name));
  });

  test('move together with the base port, and one port can be set apart', () => {
    const options = load({ argv: ['--base-port', '7500', '--resp-port=6379'] });
    expect(options).toMatchObject({ httpPort: 7500, nativePort: 7501, respPort: 6379, viewPort: 7520 });
  });

  test('base port 0 leaves every port to the system', () => {
    expect(load({ argv: ['--base-port=0'] })).toMatchObject({ httpPort: 0, peerPort: 0, viewPort: 0 });
  });

  test('each passes the check a given value must pass', () => {
    for (const name of OPTION_NAMES) {
      const { fallback, fallbackText: words } = OPTION_TABLE[name] as { fallback: unknown; fallbackText?: string };
      if (typeof fallback === 'function' || words !== undefined) continue;
      expect(load({ argv: [`${flagOf(name)}=${fallbackText(name)}`] })).toEqual(load());
    }
  });

  test('the host others are told is the own one among the peers, else the bind address, else the host name', () => {
    const argv = ['--peers=1@a:7411,2@b:7411', '--node-id=2'];
    expect(load({ argv }).advertiseHost).toBe('b');
    expect(load({ argv: ['--bind=10.0.0.7', '--insecure'] }).advertiseHost).toBe('10.0.0.7');
    expect(load({ argv: ['--bind=0.0.0.0', '--insecure'] }).advertiseHost).toBe('box');
  });
});

describe('spellings and precedence', () => {
  test('flags win over the environment, the environment over the file, the file over the default', () => {
    const yaml = 'basePort: 7600\nregion: file\nclusterName: file\n';
    const env = { TIDELINE_BASE_PORT: '7700', TIDELINE_REGION: 'env' };
    const options = load({ argv: ['--base-port', '7800'], env, yaml });
    expect(options).toMatchObject({ basePort: 7800, region: 'env', clusterName: 'file', durability: 'sync' });
    expect(options.configFile).toBe('/srv/tideline.yaml');
  });

  test('every option has the same meaning in its three spellings', () => {
    const samples: Partial<Record<string, string>> = {
      'log-level': 'debug',
      'heartbeat-ms': '50ms',
      'segment-bytes': '128MiB',
      topics: 'a,b:8,c+archive,d:2+archive+ttl=30s+maxIdle=10m+maxEntries=1000000+maxBytes=1gb',
      insecure: 'true',
      'log-nodes': 'h1:7410,[::1]:7410',
    };
    for (const [name, text] of Object.entries(samples) as Array<[(typeof OPTION_NAMES)[number], string]>) {
      const flag = load({ argv: [`${flagOf(name)}=${text}`] });
      expect(load({ env: { [envOf(name)]: text } })).toEqual(flag);
      expect({ ...load({ yaml: `${yamlKeyOf(name)}: "${text}"\n` }), configFile: undefined }).toEqual(flag);
      expect(flag).not.toEqual(load());
    }
  });

  test('a topic says whether its view has an archive', () => {
    const { topics } = load({ argv: ['--topics=default+archive,sessions:4+archive,orders:2'] });
    expect(topics).toEqual([
      { name: 'default', partitions: 1, view: { ...VIEW_DEFAULTS, archive: true } },
      { name: 'sessions', partitions: 4, view: { ...VIEW_DEFAULTS, archive: true } },
      { name: 'orders', partitions: 2, view: VIEW_DEFAULTS },
    ]);
  });

  test('a topic says how long its entries live and how many its view holds', () => {
    const { topics } = load({
      argv: ['--topics=default+ttl=30s+maxIdle=10m,sessions:4+maxEntries=1000000+maxBytes=1gb'],
    });
    expect(topics).toEqual([
      { name: 'default', partitions: 1, view: { ...VIEW_DEFAULTS, defaultTtlMs: 30_000, maxIdleMs: 600_000 } },
      { name: 'sessions', partitions: 4, view: { ...VIEW_DEFAULTS, maxEntries: 1_000_000, maxBytes: 1e9 } },
    ]);
    const written = OPTION_TABLE.topics.kind.format(topics);
    expect(written).toBe('default+ttl=30s+maxIdle=10m,sessions:4+maxEntries=1000000+maxBytes=1000000000');
    expect(load({ argv: [`--topics=${written}`] }).topics).toEqual(topics);
  });

  test('a list may be a YAML list', () => {
    const yaml = 'topics: [orders:8, bids]\npeers:\n  - 1@a:7411\n  - 2@b:7411\n';
    const options = load({ yaml });
    expect(options.topics.map((topic) => topic.name)).toEqual(['default', 'orders', 'bids']);
    expect(options.peers).toEqual([
      { nodeId: 1, host: 'a', port: 7411 },
      { nodeId: 2, host: 'b', port: 7411 },
    ]);
  });

  test('--config names the file, and it must be there', () => {
    const read: string[] = [];
    const readFile = (path: string) => {
      read.push(path);
      return 'region: north\n';
    };
    expect(load({ argv: ['--config', 'conf/a.yaml'], readFile }).region).toBe('north');
    expect(load({ env: { TIDELINE_CONFIG: '/etc/t.yaml' }, readFile }).region).toBe('north');
    expect(read).toEqual(['/srv/conf/a.yaml', '/etc/t.yaml']);
    expect(only({ argv: ['--config=gone.yaml'] })).toMatchObject({ option: '--config', value: '/srv/gone.yaml' });
  });

  test('an empty file, and one with comments only, say nothing', () => {
    expect({ ...load({ yaml: '' }), configFile: undefined }).toEqual(load());
    expect({ ...load({ yaml: '# nothing\n' }), configFile: undefined }).toEqual(load());
  });

  test('flags without a value switch on, --no- switches off', () => {
    expect(load({ argv: ['--insecure'] }).insecure).toBe(true);
    expect(load({ argv: ['--no-insecure'], env: { TIDELINE_INSECURE: 'true' } }).insecure).toBe(false);
    expect(load({ argv: ['--insecure=off'] }).insecure).toBe(false);
  });

  test('an empty variable is an unset one, and variables of Kubernetes and of the tests are not ours', () => {
    const env = {
      TIDELINE_REGION: '',
      TIDELINE_SERVICE_HOST: '10.0.0.1',
      TIDELINE_SERVICE_PORT_HTTP: '7400',
      TIDELINE_PORT: 'tcp://10.0.0.1:7400',
      TIDELINE_PORT_7400_TCP_ADDR: '10.0.0.1',
      TIDELINE_TEST_POSTGRES: 'postgres://x/y',
      PATH: '/bin',
    };
    expect(load({ env })).toEqual(load());
  });

  test('an option only another app uses is accepted, so that a deployment can share one file', () => {
    expect(load({ app: 'raft-log', env: { TIDELINE_MATERIALIZERS: 'm:7420' } }).materializers).toHaveLength(1);
  });
});

describe('refusals', () => {
  test('name the option as it was spelled, the value and what is allowed', () => {
    expect(only({ argv: ['--base-port=99999'] })).toEqual({
      option: '--base-port',
      value: '99999',
      message: 'must be a whole number from 0 to 65515',
    });
    expect(only({ env: { TIDELINE_DURABILITY: 'maybe' } })).toEqual({
      option: 'TIDELINE_DURABILITY',
      value: 'maybe',
      message: 'must be one of sync, os',
    });
    expect(only({ yaml: 'nodeId: zero\n' })).toMatchObject({ option: 'nodeId in tideline.yaml', value: 'zero' });
  });

  test('suggest the nearest name, in the spelling that was used', () => {
    expect(only({ argv: ['--bse-port', '7400'] }).message).toBe('no such option; did you mean --base-port?');
    expect(only({ argv: ['--basePort=7400'] }).message).toContain('--base-port');
    expect(only({ env: { TIDELINE_BASEPORT: '1' } }).message).toContain('TIDELINE_BASE_PORT');
    expect(only({ yaml: 'base-port: 1\n' }).message).toContain('basePort');
    expect(only({ argv: ['--frobnicate'] }).message).toBe('no such option');
  });

  test('come all at once, in one message', () => {
    const argv = ['--node-id=0', '--topics=a,a', '--nope-nope', '--heartbeat-ms=900'];
    const problems = problemsOf({ argv, env: { TIDELINE_DURABILITY: 'x' } });
    expect(problems.map((problem) => problem.option).sort()).toEqual(
      ['--heartbeat-ms', '--node-id', '--nope-nope', '--topics', 'TIDELINE_DURABILITY'].sort(),
    );
    expect(() => load({ argv })).toThrow(/^4 options cannot be used:\n(  .+\n){4}All options: --help$/);
  });

  test.each([
    ['a word that is no option', ['start'], 'unexpected'],
    ['a missing value', ['--base-port', '--node-id=1'], 'needs a value'],
    ['a value that is missing at the end', ['--base-port'], 'needs a value'],
    ['a flag given twice', ['--node-id=1', '--node-id=2'], 'given twice'],
    ['a number with a unit it cannot have', ['--node-id=1s'], 'whole number'],
    ['a number in another notation', ['--node-id=1e3'], 'whole number'],
    ['a duration that is too short', ['--heartbeat-ms=1ms'], '10ms to 20s'],
    ['a segment that is no multiple of a block', ['--segment-bytes=64000001'], 'a multiple of 4KiB'],
    ['a segment that cannot hold a request', ['--segment-bytes=8MiB'], 'largest request'],
    ['a record that exceeds the request', ['--request-bytes-max=64KiB'], 'more than request-bytes-max'],
    ['a host with a port', ['--bind=127.0.0.1:80'], 'without a port'],
    ['an address that is none', ['--bind=300.1.1.1'], 'host name or an IP address'],
    ['two services on one port', ['--resp-port=7401'], '7401 is the native-port as well'],
    ['a heartbeat of a third of the election timeout', ['--heartbeat-ms=334'], 'less than a third'],
    ['a database that is none we know', ['--catalog-url=mysql://x/y'], 'sqlite:PATH'],
    ['a Postgres address without a database', ['--catalog-url=postgres://x'], 'name a database'],
    ['a peer without an id', ['--peers=a:7411'], 'ID@HOST:PORT'],
    ['a peer named twice', ['--peers=1@a:7411,1@b:7411'], 'node 1 twice'],
    ['two peers at one address', ['--peers=1@a:7411,2@a:7411'], 'a:7411 twice'],
    ['peers without this node', ['--peers=2@a:7411,3@b:7411'], 'must contain this node: node-id is 1'],
    ['a trailing comma', ['--topics=a,'], 'NAME or NAME:PARTITIONS'],
    ['a topic of too many partitions', ['--topics=a:257'], '1 to 256'],
    ['a topic of no partition', ['--topics=a:0'], '1 to 256'],
    ['a topic of the system', ['--topics=__meta'], 'kept for the system'],
    ['a topic with something else', ['--topics=a+archived'], 'may have +archive +ttl=…'],
    ['a TTL that is no duration', ['--topics=a+ttl=soon'], '"a+ttl=soon" has +ttl=soon; ttl may be 1ms to 36500d'],
    ['a TTL of nothing', ['--topics=a+ttl=0s'], 'ttl may be 1ms'],
    ['an idle time without a unit', ['--topics=a+maxIdle=10'], 'maxIdle may be 1ms'],
    ['a view of no entry', ['--topics=a+maxEntries=0'], 'maxEntries may be 1 to 4294967295'],
    ['a view of hardly a byte', ['--topics=a+maxBytes=10'], 'maxBytes may be 1KiB to 1024TiB'],
    ['a setting given twice', ['--topics=a+ttl=1s+ttl=2s'], 'has +ttl twice'],
    ['a topic that is a path', ['--topics=..'], 'NAME or NAME:PARTITIONS'],
    ['an empty value', ['--data-dir='], 'a path'],
    ['a value for a --no- flag', ['--no-insecure=1'], 'takes no value'],
  ])('%s', (_, argv, message) => {
    expect(only({ argv }).message).toContain(message);
  });

  test('listening beyond this machine needs --insecure', () => {
    for (const bind of ['0.0.0.0', '::', '192.168.1.4', 'box.example.org']) {
      expect(problemsOf({ argv: [`--bind=${bind}`] })[0].message).toContain('--insecure');
      expect(load({ argv: [`--bind=${bind}`, '--insecure'] }).bind).toBe(bind);
    }
    for (const bind of ['127.0.0.1', '127.3.2.1', '::1', 'localhost']) {
      expect(load({ argv: [`--bind=${bind}`] }).bind).toBe(bind);
    }
  });

  test('gateway and materializer need to know the log', () => {
    expect(only({ app: 'gateway' }).option).toBe('--log-nodes');
    expect(only({ app: 'materializer' }).option).toBe('--log-nodes');
    expect(load({ app: 'gateway', argv: ['--log-nodes=a:7410'] }).logNodes).toEqual([{ host: 'a', port: 7410 }]);
    expect(load({ app: 'gateway', argv: ['--seeds=a:7410'] }).logNodes).toEqual([{ host: 'a', port: 7410 }]);
  });

  test('a file that is no mapping, no YAML, or names a thing twice', () => {
    expect(only({ yaml: '- a\n' }).message).toContain('basePort: 7400');
    expect(only({ yaml: 'region: *nowhere\n' }).message).toContain('not valid YAML');
    expect(only({ yaml: 'a: [\n' }).message).toContain('not valid YAML');
    expect(only({ yaml: 'nodeId: 1\nnodeId: 2\n' }).message).toContain('not valid YAML');
    expect(only({ yaml: 'nodeId: {a: 1}\n' }).option).toBe('nodeId in tideline.yaml');
  });

  test('a password is not repeated', () => {
    const argv = ['--catalog-url=postgres://u:hunter2@'];
    expect(JSON.stringify(only({ argv }))).not.toContain('hunter2');
    expect(() => load({ argv })).toThrow(expect.not.stringContaining('hunter2') as unknown as string);
  });

  test('no input makes the reader fail in another way', () => {
    const word = fc.oneof(
      fc.string(),
      fc.constantFrom(...OPTION_NAMES).map((name) => flagOf(name)),
      fc.tuple(fc.constantFrom(...OPTION_NAMES), fc.string()).map(([name, text]) => `${flagOf(name)}=${text}`),
    );
    const outcome = (sources: Partial<OptionSources> & { yaml?: string }): boolean => {
      try {
        load(sources);
        return true;
      } catch (error) {
        return isTidelineError(error, 'bad-option');
      }
    };
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), fc.string(), (argv, yaml) => {
        expect(outcome({ argv, yaml })).toBe(true);
      }),
    );
  });
});

describe('--help', () => {
  test('shows the options of the app with defaults and what is allowed', () => {
    const help = optionsHelp('raft-log', 'node dist/apps/raft-log/src/main.js [options]');
    expect(help).toContain('--config FILE');
    expect(help).toContain('--base-port PORT');
    expect(help).toContain('default: base-port + 10');
    expect(help).toContain('default: 64MiB; 1MiB to 1GiB');
    expect(help).not.toContain('--resp-port');
    expect(wantsHelp(['--node-id', '1', '--help'])).toBe(true);
    expect(wantsHelp(['--node-id', '1'])).toBe(false);
  });
});
