import { Global, Inject, Module, type BeforeApplicationShutdown, type DynamicModule } from '@nestjs/common';
import { HealthRegistry } from './health.js';
import { TidelineLogger } from './logger.js';
import { Metrics } from './metrics.js';
import type { TidelineOptions } from './options/options.js';
import { ProbeController } from './probe.controller.js';

/** Injection token of the TidelineOptions. */
export const OPTIONS = Symbol('TidelineOptions');

export interface PlatformParts {
  /** Made from the options unless given: an app makes its logger before its modules. */
  readonly logger?: TidelineLogger;
  readonly metrics?: Metrics;
  readonly health?: HealthRegistry;
}

/** One module for one options object: in a standalone process three root modules ask for it and get the same. */
const modules = new WeakMap<TidelineOptions, DynamicModule>();

/** Options, logger, metrics and health for everyone, and the routes /livez, /readyz and /metrics. */
@Global()
@Module({})
export class PlatformModule implements BeforeApplicationShutdown {
  constructor(@Inject(HealthRegistry) private readonly health: HealthRegistry) {}

  /** `parts` count in the first call for an options object; later calls get the module made then. */
  static forRoot(options: TidelineOptions, parts: PlatformParts = {}): DynamicModule {
    const existing = modules.get(options);
    if (existing) return existing;
    const labels = { node: String(options.nodeId), region: options.region };
    const providers = [
      { provide: OPTIONS, useValue: options },
      {
        provide: TidelineLogger,
        useFactory: () => parts.logger ?? new TidelineLogger({ ...options, fields: { app: options.app, ...labels } }),
      },
      { provide: Metrics, useFactory: () => parts.metrics ?? new Metrics({ labels }) },
      { provide: HealthRegistry, useFactory: () => parts.health ?? new HealthRegistry() },
    ];
    const module: DynamicModule = {
      module: PlatformModule,
      controllers: [ProbeController],
      providers,
      exports: [OPTIONS, TidelineLogger, Metrics, HealthRegistry],
    };
    modules.set(options, module);
    return module;
  }

  beforeApplicationShutdown(): void {
    this.health.drain();
  }
}
