import type { DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { createHttpEdge } from './http/http-adapter.js';
import { TidelineLogger } from './logger.js';
import type { AppName } from './options/option-table.js';
import { optionsHelp } from './options/options-help.js';
import { loadOptions, wantsHelp, type TidelineOptions } from './options/options.js';
import { PlatformModule } from './platform-module.js';
import { Metrics } from './metrics.js';
import { closeOnSignal, runMain } from './process-end.js';

export interface ServerApp {
  readonly app: AppName;
  /** How it is called, for --help. */
  readonly usage: string;
  /** Without the node binary and script. */
  readonly argv: readonly string[];
  /** The app's root module. May throw what a start may be refused for. */
  readonly module: (options: TidelineOptions, logger: TidelineLogger) => DynamicModule | Promise<DynamicModule>;
  /** Runs once everything listens: tell the user where. */
  readonly started?: (options: TidelineOptions, logger: TidelineLogger) => void;
}

/**
 * A server process from options to exit: reads the options, makes the app and its HTTP server, stops on signals. Whatever prevents the start is
 * printed as one message and ends the process with 1, or 2 for options.
 */
export const runServer = (server: ServerApp): Promise<void> =>
  runMain(async () => {
    const { app: name, argv } = server;
    if (wantsHelp(argv)) {
      process.stdout.write(optionsHelp(name, server.usage));
      return;
    }
    const options = loadOptions({ app: name, argv, env: process.env });
    const logger = new TidelineLogger({ ...options, fields: { app: name, node: String(options.nodeId) } });
    const metrics = new Metrics({ process: true, labels: { node: String(options.nodeId), region: options.region } });
    PlatformModule.forRoot(options, { logger, metrics });
    const edge = createHttpEdge(options);
    const app = await NestFactory.create(await server.module(options, logger), edge.adapter, {
      logger,
      abortOnError: false,
    });
    app.useGlobalFilters(edge.filter);
    closeOnSignal(app, {
      timeoutMs: options.shutdownTimeoutMs,
      drain: edge.drain,
      say: (message) => logger.log(message),
    });
    try {
      await app.listen(options.httpPort, options.bind);
    } catch (error) {
      await app.close().catch(() => undefined);
      throw error;
    }
    server.started?.(options, logger);
  });
