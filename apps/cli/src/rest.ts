import { TidelineError, isErrorCode } from '#kernel';
import type { Command } from 'commander';
import { durationOption } from './session.js';

/** REST is one below the native port unless the options say otherwise (docs/operations.md, Ports). */
const PORT_DISTANCE = 1;

interface RestOptions {
  readonly address: string;
  readonly http?: string;
  readonly timeout: string;
}

/** `http://host:port` of the nodes the command is about, in the order in which they are to be tried. */
export const restAddressesOf = (command: Command): string[] => {
  const { address, http } = command.optsWithGlobals<RestOptions>();
  if (http !== undefined) return http.split(',').map((one) => `http://${one.trim()}`);
  return address.split(',').map((one) => {
    const [, host, port] = /^(.*):(\d+)$/.exec(one.trim()) ?? [];
    if (host === undefined) throw new TidelineError('bad-option', `--address ${one}: host:port`);
    return `http://${host}:${Number(port) - PORT_DISTANCE}`;
  });
};

/** Asks the first node that can be reached. @throws (rejects) TidelineError as the server's problem says, or `connection-lost` */
export const askRest = async (
  command: Command,
  method: 'GET' | 'POST',
  path: string,
  /** The body may take longer than the time of one request. */
  { untilBody = false }: { readonly untilBody?: boolean } = {},
): Promise<Response> => {
  const timeoutMs = durationOption('--timeout', command.optsWithGlobals<RestOptions>().timeout);
  const addresses = restAddressesOf(command);
  for (const address of addresses) {
    let response: Response;
    try {
      const signal = untilBody ? null : AbortSignal.timeout(timeoutMs);
      response = await fetch(`${address}${path}`, { method, signal });
    } catch (error) {
      if (error instanceof Error && error.name === 'TimeoutError') {
        throw new TidelineError('timeout', `${address} has not answered within ${timeoutMs} ms`, { cause: error });
      }
      continue;
    }
    if (response.ok) return response;
    throw await problemOf(response);
  }
  throw new TidelineError('connection-lost', `nobody answers at ${addresses.join(', ')} (--http says where REST is)`, {
    outcome: 'rejected',
  });
};

const problemOf = async (response: Response): Promise<TidelineError> => {
  const problem = (await response.json().catch(() => ({}))) as { code?: unknown; detail?: unknown; outcome?: unknown };
  const code = isErrorCode(problem.code) ? problem.code : 'internal';
  const message = typeof problem.detail === 'string' ? problem.detail : `HTTP ${response.status}`;
  const { outcome } = problem;
  return new TidelineError(code, message, outcome === 'unknown' || outcome === 'rejected' ? { outcome } : {});
};

export const restJson = async <T>(command: Command, method: 'GET' | 'POST', path: string): Promise<T> =>
  (await (await askRest(command, method, path)).json()) as T;
