/**
 * How a process ends: asked to (signals), unable to start, or because going on would be wrong. Exit codes:
 * 0 stopped as asked · 1 failed · 2 options · 128 + n ended at once by the second signal n.
 */
import { isTidelineError, systemScheduler, type Scheduler } from '#kernel';

/** What is needed of `process`; tests pass their own. */
export interface ProcessPort {
  on(event: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(event: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  on(event: 'uncaughtException' | 'unhandledRejection', listener: (error: unknown) => void): unknown;
  off(event: 'uncaughtException' | 'unhandledRejection', listener: (error: unknown) => void): unknown;
  exit(code: number): void;
  readonly stderr: { write(text: string): unknown };
}

const SIGNALS: Readonly<Record<'SIGINT' | 'SIGTERM', number>> = { SIGINT: 2, SIGTERM: 15 };

export interface ShutdownOptions {
  readonly timeoutMs: number;
  /** What happens first, at once: refuse new work. */
  readonly drain?: () => void;
  readonly say?: (message: string) => void;
  readonly process?: ProcessPort;
  readonly scheduler?: Scheduler;
}

/**
 * Stops the app on SIGINT or SIGTERM: drain, close, exit 0. After `timeoutMs` the process ends with 1, on a second
 * signal at once. Returns a function that stops listening.
 */
export function closeOnSignal(app: { close(): Promise<unknown> }, options: ShutdownOptions): () => void {
  const port = options.process ?? (process as ProcessPort);
  const scheduler = options.scheduler ?? systemScheduler;
  const say = options.say ?? ((message) => port.stderr.write(`${message}\n`));
  let stopping = false;

  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping) {
      say(`${signal} again: ending now`);
      port.exit(128 + SIGNALS[signal as keyof typeof SIGNALS]);
      return;
    }
    stopping = true;
    say(`${signal}: stopping`);
    const cancel = scheduler.after(options.timeoutMs, () => {
      say(`not stopped within ${options.timeoutMs} ms: ending now`);
      port.exit(1);
    });
    const end = (code: number): void => {
      cancel();
      port.exit(code);
    };
    Promise.resolve()
      .then(() => {
        options.drain?.();
        return app.close();
      })
      .then(
        () => end(0),
        (error: unknown) => {
          say(`stopping failed: ${explain(error)}`);
          end(1);
        },
      );
  };
  for (const signal of Object.keys(SIGNALS) as NodeJS.Signals[]) port.on(signal, onSignal);
  return () => {
    for (const signal of Object.keys(SIGNALS) as NodeJS.Signals[]) port.off(signal, onSignal);
  };
}

/**
 * Ends the process because its state can no longer be trusted: a failed write or sync, a broken invariant. Nothing
 * is flushed or closed: what was acknowledged is on disk, and the rest must not be.
 */
export function fatal(error: unknown, port: ProcessPort = process as ProcessPort): void {
  port.stderr.write(`fatal: ${explain(error)}\n${stackOf(error)}`);
  port.exit(1);
}

/** An error nobody caught leaves work half done: end, and let whoever supervises the process start it again. */
export function endOnUncaughtErrors(port: ProcessPort = process as ProcessPort): () => void {
  const onError = (error: unknown): void => fatal(error, port);
  port.on('uncaughtException', onError);
  port.on('unhandledRejection', onError);
  return () => {
    port.off('uncaughtException', onError);
    port.off('unhandledRejection', onError);
  };
}

/** Runs a program's main function; what it throws is printed as one clear message and becomes the exit code. */
export async function runMain(main: () => Promise<void>, port: ProcessPort = process as ProcessPort): Promise<void> {
  endOnUncaughtErrors(port);
  try {
    await main();
  } catch (error) {
    port.stderr.write(startupMessage(error));
    port.exit(isTidelineError(error, 'bad-option') ? 2 : 1);
  }
}

/** Why the start failed, for people: what happened, and what to do where that is known. A stack only for defects. */
export function startupMessage(error: unknown): string {
  const known = isTidelineError(error) && error.code !== 'internal' ? error.message : systemError(error);
  if (known !== undefined) return `tideline: ${known}\n`;
  return `tideline: the start failed: ${explain(error)}\n${stackOf(error)}`;
}

/** Errors of the system and of native modules, told in terms of this program. */
function systemError(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, address, port, path } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  switch (code) {
    case 'EADDRINUSE':
      return `another process listens on ${address ?? '?'}:${port ?? '?'}; stop it, or choose other ports with --base-port`;
    case 'EADDRNOTAVAIL':
      return `${address ?? 'the address'} is not an address of this machine; see --bind`;
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      if (address !== undefined) return `no permission to listen on ${address}:${port ?? '?'}; choose ports above 1023`;
      return path === undefined ? undefined : `no permission to use ${path}; choose another folder with --data-dir`;
    case 'ERR_DLOPEN_FAILED':
      return `a native module does not fit this Node (${process.version}); run npm rebuild\n  ${explain(error).split('\n', 1)[0]}`;
    default:
      return undefined;
  }
}

/** A chain of causes, each on what it caused. */
function explain(thrown: unknown): string {
  const messages: string[] = [];
  for (let error: unknown = thrown, depth = 0; error !== undefined && depth < 5; depth++) {
    const message = error instanceof Error ? error.message || error.name : String(error);
    if (!messages.some((earlier) => earlier.includes(message))) messages.push(message);
    error = error instanceof Error ? error.cause : undefined;
  }
  return messages.join(': ');
}

const stackOf = (error: unknown): string => {
  const lines = error instanceof Error ? (error.stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? []) : [];
  return lines.length > 0 ? `${lines.join('\n')}\n` : '';
};
