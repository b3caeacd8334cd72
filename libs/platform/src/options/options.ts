/**
 * Reads the options of a process: flags over environment over `tideline.yaml` over defaults.
 *
 *   --base-port 7400   --base-port=7400   TIDELINE_BASE_PORT=7400   basePort: 7400
 *
 * All mistakes are found in one go and reported in one `bad-option` error: a start that fails five times, each
 * time for the next reason, wastes an evening. An option an app does not use is accepted, so that one
 * environment or file serves all apps of a deployment.
 */
import { readFileSync } from 'node:fs';
import { hostname as systemHostname } from 'node:os';
import { basename, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { TidelineError, VIEW_DEFAULTS } from '#kernel';
import { nearestName } from './nearest-name.js';
import { checkTogether } from './option-checks.js';
import { Refusal } from './option-kind.js';
import {
  OPTION_NAMES,
  OPTION_TABLE,
  type AppName,
  type Basis,
  type OptionName,
  type OptionSpec,
} from './option-table.js';

type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

type ValueOf<N extends OptionName> = (typeof OPTION_TABLE)[N] extends OptionSpec<infer T> ? T : never;

/** Every option by its camelCase name, checked and complete. Durations in milliseconds, sizes in bytes, paths absolute. */
export type TidelineOptions = {
  readonly [N in OptionName as CamelCase<N>]: ValueOf<N>;
} & {
  /** The app these options were read for. */
  readonly app: AppName;
  /** The file that was read, if any. */
  readonly configFile: string | undefined;
};

export interface OptionSources {
  readonly app: AppName;
  /** Without the node binary and script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths start here; process.cwd() unless given. */
  readonly cwd?: string;
  readonly hostname?: string;
  /** The text of a file; throws as readFileSync does. */
  readonly readFile?: (path: string) => string;
}

/** One thing wrong with the options. */
export interface OptionProblem {
  /** As the user spelled it: `--base-port`, `TIDELINE_BASE_PORT`, `basePort`. */
  readonly option: string;
  readonly value?: string;
  readonly message: string;
}

interface Given {
  readonly text: string;
  /** As the user spelled it. */
  readonly spelling: string;
}

type GivenOptions = Map<OptionName, Given>;

const ENV_PREFIX = 'TIDELINE_';
const CONFIG_FILE = 'tideline.yaml';
const CONFIG_FLAG = '--config';
const CONFIG_ENV = 'TIDELINE_CONFIG';
const CONFIG_FILE_CHARS_MAX = 1024 * 1024;
const SHOWN_VALUE_CHARS_MAX = 120;

const camelCase = (name: string): string => name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
const envName = (name: string): string => ENV_PREFIX + name.toUpperCase().replaceAll('-', '_');

export const flagOf = (name: OptionName): string => `--${name}`;
export const envOf = (name: OptionName): string => envName(name);
export const yamlKeyOf = (name: OptionName): string => camelCase(name);

const BY_FLAG = new Map(OPTION_NAMES.map((name) => [flagOf(name), name]));
const BY_ENV = new Map(OPTION_NAMES.map((name) => [envOf(name), name]));
const BY_YAML_KEY = new Map(OPTION_NAMES.map((name) => [yamlKeyOf(name), name]));

export const wantsHelp = (argv: readonly string[]): boolean => argv.includes('--help') || argv.includes('-h');

/** Reads and checks all options. Throws one `bad-option` error that lists every problem. */
export function loadOptions(sources: OptionSources): TidelineOptions {
  const cwd = sources.cwd ?? process.cwd();
  const problems: OptionProblem[] = [];
  const flags = readFlags(sources.argv, problems);
  const env = readEnvironment(sources.env, problems);
  const file = readConfigFile(flags.config ?? env.config, { ...sources, cwd }, problems);

  const values: Record<string, unknown> = {
    app: sources.app,
    configFile: file.path,
  };
  // Filled row by row: a fallback sees the options above it.
  const basis: Record<string, unknown> = { cwd, hostname: sources.hostname ?? systemHostname() };
  const spelled = new Map<OptionName, Given>();
  for (const name of OPTION_NAMES) {
    const spec: OptionSpec<unknown> = OPTION_TABLE[name];
    const given = flags.given.get(name) ?? env.given.get(name) ?? file.given.get(name);
    let value: unknown = new Refusal();
    if (given) {
      spelled.set(name, given);
      value = spec.kind.parse(given.text, cwd);
      if (value instanceof Refusal) {
        const message = value.reason ?? `must be ${spec.kind.allowed}`;
        problems.push({ option: given.spelling, value: shown(spec, given.text), message });
      }
    }
    // After a refusal the fallback stands in, so that the checks below find what else is wrong.
    if (value instanceof Refusal) {
      value = typeof spec.fallback === 'function' ? spec.fallback(basis as unknown as Basis) : spec.fallback;
    }
    basis[name] = value;
    values[camelCase(name)] = value;
  }

  const options = withDefaultTopic(values as unknown as TidelineOptions);
  for (const { option, message } of checkTogether(options)) {
    const given = spelled.get(option);
    const value = given ? shown(OPTION_TABLE[option], given.text) : undefined;
    problems.push({ option: given?.spelling ?? flagOf(option), ...(value !== undefined && { value }), message });
  }
  if (problems.length > 0) throw badOptions(problems);
  return Object.freeze(options);
}

/** A topic `default` exists from the first start, whatever else is asked for. */
function withDefaultTopic(options: TidelineOptions): TidelineOptions {
  if (options.topics.some((topic) => topic.name === 'default')) return options;
  return { ...options, topics: [{ name: 'default', partitions: 1, view: VIEW_DEFAULTS }, ...options.topics] };
}

function readFlags(
  argv: readonly string[],
  problems: OptionProblem[],
): { given: GivenOptions; config: Given | undefined } {
  const given: GivenOptions = new Map();
  let config: Given | undefined;
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index];
    if (word === '--help' || word === '-h') continue;
    if (!word.startsWith('--')) {
      problems.push({ option: word, message: 'unexpected; options are spelled --name value or --name=value' });
      continue;
    }
    const equals = word.indexOf('=');
    const flag = equals < 0 ? word : word.slice(0, equals);
    const negated = BY_FLAG.get(flag.replace(/^--no-/, '--'));
    const name = BY_FLAG.get(flag) ?? (negated && isFlag(negated) ? negated : undefined);
    if (name === undefined && flag !== CONFIG_FLAG) {
      problems.push(unknownOption(flag, [...BY_FLAG.keys(), CONFIG_FLAG]));
      // Its value, if it has one, is not a mistake of its own.
      if (equals < 0 && argv[index + 1] !== undefined && !argv[index + 1].startsWith('--')) index++;
      continue;
    }
    let text: string | undefined = equals < 0 ? undefined : word.slice(equals + 1);
    if (name !== undefined && isFlag(name)) {
      if (flag !== flagOf(name)) {
        if (text !== undefined) {
          problems.push({ option: flag, value: text, message: 'takes no value' });
          continue;
        }
        text = 'false';
      }
      text ??= 'true';
    } else if (text === undefined) {
      const next = argv[index + 1];
      if (next === undefined || next.startsWith('--')) {
        problems.push({ option: flag, message: 'needs a value' });
        continue;
      }
      text = next;
      index++;
    }
    const value = { text, spelling: flag };
    if (name === undefined ? config : given.has(name)) {
      problems.push({ option: flag, message: 'is given twice' });
    }
    if (name === undefined) config = value;
    else given.set(name, value);
  }
  return { given, config };
}

const isFlag = (name: OptionName): boolean => OPTION_TABLE[name].kind.placeholder === '';

/** What Kubernetes puts into every container for a service called `tideline`, and what the project's own tests use. */
const foreignVariable = (name: string, value: string): boolean =>
  /_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)/.test(name) ||
  /^(tcp|udp|sctp):\/\//.test(value) ||
  name.startsWith(`${ENV_PREFIX}TEST_`);

function readEnvironment(
  env: OptionSources['env'],
  problems: OptionProblem[],
): { given: GivenOptions; config: Given | undefined } {
  const given: GivenOptions = new Map();
  let config: Given | undefined;
  for (const [variable, text] of Object.entries(env)) {
    // Set but empty counts as not set: that is all `${VARIABLE:-}` in a compose file can say.
    if (!variable.startsWith(ENV_PREFIX) || text === undefined || text === '') continue;
    const name = BY_ENV.get(variable);
    if (name !== undefined) given.set(name, { text, spelling: variable });
    else if (variable === CONFIG_ENV) config = { text, spelling: variable };
    else if (!foreignVariable(variable, text)) problems.push(unknownOption(variable, [...BY_ENV.keys(), CONFIG_ENV]));
  }
  return { given, config };
}

function readConfigFile(
  config: Given | undefined,
  sources: OptionSources & { readonly cwd: string },
  problems: OptionProblem[],
): { given: GivenOptions; path: string | undefined } {
  const given: GivenOptions = new Map();
  const path = resolve(sources.cwd, config?.text ?? CONFIG_FILE);
  let text: string;
  try {
    text = (sources.readFile ?? ((file) => readFileSync(file, 'utf8')))(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // The file of the default name need not be there; one that was asked for must.
    if (config === undefined && code === 'ENOENT') return { given, path: undefined };
    const message = `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    problems.push({ option: config?.spelling ?? CONFIG_FILE, value: path, message });
    return { given, path };
  }
  const where = basename(path);
  if (text.length > CONFIG_FILE_CHARS_MAX) {
    problems.push({ option: where, message: `is longer than ${CONFIG_FILE_CHARS_MAX} characters` });
    return { given, path };
  }
  let content: unknown;
  try {
    content = readYaml(text);
  } catch (error) {
    const message = error instanceof Error ? error.message.split('\n', 1)[0] : String(error);
    problems.push({ option: where, message: `is not valid YAML: ${message}` });
    return { given, path };
  }
  if (content === null || content === undefined || content === '') return { given, path };
  if (typeof content !== 'object' || Array.isArray(content)) {
    problems.push({ option: where, message: 'must be lines of the form `basePort: 7400`' });
    return { given, path };
  }
  for (const [key, value] of Object.entries(content)) {
    const spelling = `${key} in ${where}`;
    const name = BY_YAML_KEY.get(key);
    if (name === undefined) {
      problems.push(unknownOption(key, BY_YAML_KEY.keys(), spelling));
      continue;
    }
    const scalar = scalarText(value);
    if (scalar === undefined) {
      problems.push({ option: spelling, message: `must be ${OPTION_TABLE[name].kind.allowed}` });
    } else {
      given.set(name, { text: scalar, spelling });
    }
  }
  return { given, path };
}

/** The failsafe schema leaves every scalar the text it was: the kinds read it as they read flags. */
function readYaml(text: string): unknown {
  const document = parseDocument(text, { schema: 'failsafe' });
  if (document.errors.length > 0) throw document.errors[0];
  return document.toJS({ maxAliasCount: 100 });
}

/** A scalar, or a list of scalars as the comma-separated text it stands for. */
function scalarText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value.join(',');
  return undefined;
}

function unknownOption(spelling: string, candidates: Iterable<string>, option: string = spelling): OptionProblem {
  // base_port and basePort as a flag are the same slip as base-prot: compare what is left without the dressing.
  const plain = (name: string) =>
    name
      .replace(/^--|^TIDELINE_/, '')
      .replace(/[-_]/g, '')
      .toLowerCase();
  const byPlain = new Map([...candidates].map((candidate) => [plain(candidate), candidate]));
  const nearest = nearestName(plain(spelling), byPlain.keys());
  const hint = nearest === undefined ? '' : `; did you mean ${byPlain.get(nearest)}?`;
  return { option, message: `no such option${hint}` };
}

function shown(spec: OptionSpec<unknown>, text: string): string {
  if (spec.secret) return '(hidden)';
  return text.length <= SHOWN_VALUE_CHARS_MAX ? text : `${text.slice(0, SHOWN_VALUE_CHARS_MAX)}…`;
}

function badOptions(problems: readonly OptionProblem[]): TidelineError {
  const lines = problems.map(({ option, value, message }) =>
    value === undefined ? `  ${option}: ${message}` : `  ${option} = ${JSON.stringify(value)}: ${message}`,
  );
  const head = problems.length === 1 ? 'an option cannot be used:' : `${problems.length} options cannot be used:`;
  return new TidelineError('bad-option', [head, ...lines, 'All options: --help'].join('\n'), { details: { problems } });
}
