/**
 * The log of a process: pino underneath, Nest's LoggerService on top. JSON lines for machines; on a terminal one
 * short line for people, which needs no further package.
 *
 * Nothing may be logged per record. Fields go after the message: `logger.log('opened', { group: 3 }, 'replica')`.
 */
import type { LoggerService } from '@nestjs/common';
import { pino, stdTimeFunctions, type Logger as PinoLogger } from 'pino';
import type { TidelineOptions } from './options/options.js';

/** Where lines go; process.stdout is one. */
export interface LogSink {
  write(line: string): unknown;
}

export type LoggerOptions = Pick<TidelineOptions, 'logLevel' | 'logFormat'> & {
  /** process.stdout unless given. */
  readonly sink?: LogSink & { readonly isTTY?: boolean };
  /** On every line. */
  readonly fields?: Readonly<Record<string, unknown>>;
};

export class TidelineLogger implements LoggerService {
  readonly pino: PinoLogger;

  constructor(options: LoggerOptions) {
    const sink = options.sink ?? process.stdout;
    const pretty = options.logFormat === 'pretty' || (options.logFormat === 'auto' && sink.isTTY === true);
    this.pino = pino(
      {
        level: options.logLevel,
        base: pretty ? null : { ...options.fields },
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        redact: { paths: ['catalogUrl', 'password', 'authorization'], censor: '(hidden)' },
      },
      pretty ? new PrettySink(sink) : sink,
    );
  }

  log(message: unknown, ...rest: unknown[]): void {
    this.#write('info', message, rest);
  }

  error(message: unknown, ...rest: unknown[]): void {
    this.#write('error', message, rest);
  }

  warn(message: unknown, ...rest: unknown[]): void {
    this.#write('warn', message, rest);
  }

  debug(message: unknown, ...rest: unknown[]): void {
    this.#write('debug', message, rest);
  }

  verbose(message: unknown, ...rest: unknown[]): void {
    this.#write('trace', message, rest);
  }

  fatal(message: unknown, ...rest: unknown[]): void {
    this.#write('fatal', message, rest);
  }

  /** Nest's calling convention: the last string is the context, for errors the one before it the stack. */
  #write(level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal', message: unknown, rest: unknown[]): void {
    if (!this.pino.isLevelEnabled(level)) return;
    const fields: Record<string, unknown> = {};
    const context = rest.length > 0 && typeof rest.at(-1) === 'string' ? (rest.pop() as string) : undefined;
    if (context !== undefined) fields.context = context;
    for (const extra of rest) {
      if (extra instanceof Error) fields.err = extra;
      else if (typeof extra === 'string') fields.stack = extra;
      else if (typeof extra === 'object' && extra !== null) Object.assign(fields, extra);
    }
    // A stack may come alone, without a context after it.
    if (context !== undefined && rest.length === 0 && /\n\s+at /.test(context)) {
      delete fields.context;
      fields.stack = context;
    }
    if (message instanceof Error) {
      fields.err = message;
      this.pino[level](fields, message.message);
    } else if (typeof message === 'object' && message !== null) {
      this.pino[level]({ ...message, ...fields });
    } else {
      this.pino[level](fields, String(message));
    }
  }
}

const LEVEL_COLOURS: Readonly<Record<string, number>> = {
  trace: 90,
  debug: 90,
  info: 32,
  warn: 33,
  error: 31,
  fatal: 35,
};

/** `12:34:56.789 INFO  replica: opened group=3`, with a stack indented below. */
class PrettySink implements LogSink {
  readonly #out: LogSink & { readonly isTTY?: boolean };

  constructor(out: LogSink & { readonly isTTY?: boolean }) {
    this.#out = out;
  }

  write(line: string): void {
    const { level, time, context, msg, stack, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const name = String(level);
    const colour = (code: number, text: string) =>
      this.#out.isTTY === true ? `\u001b[${code}m${text}\u001b[0m` : text;
    const parts = [
      String(time).slice(11, 23),
      colour(LEVEL_COLOURS[name] ?? 0, name.toUpperCase().padEnd(5)),
      ...(context === undefined ? [] : [colour(36, `${String(context)}:`)]),
      ...(msg === undefined ? [] : [String(msg)]),
      ...Object.entries(fields).map(
        ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
      ),
    ];
    const trace = stack ?? (err as { stack?: unknown } | undefined)?.stack;
    this.#out.write(`${parts.join(' ')}\n${typeof trace === 'string' ? `${trace.replace(/^/gm, '    ')}\n` : ''}`);
  }
}
