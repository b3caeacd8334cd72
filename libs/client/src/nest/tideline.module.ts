import {
  Inject,
  Module,
  type DynamicModule,
  type FactoryProvider,
  type ModuleMetadata,
  type OnApplicationShutdown,
} from '@nestjs/common';
import type { TidelineClientOptions } from '../client-options.js';
import { TidelineClient } from '../tideline-client.js';

const CLIENT_OPTIONS = Symbol('TidelineClientOptions');

export interface TidelineModuleOptions extends TidelineClientOptions {
  /** Whether every module may inject the client without importing this one. Default true. */
  readonly isGlobal?: boolean;
}

export interface TidelineModuleAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  readonly useFactory: (...args: never[]) => TidelineClientOptions | Promise<TidelineClientOptions>;
  readonly inject?: FactoryProvider['inject'];
  readonly isGlobal?: boolean;
}

const clientProvider: FactoryProvider<TidelineClient> = {
  provide: TidelineClient,
  inject: [CLIENT_OPTIONS],
  useFactory: (options: TidelineClientOptions) => TidelineClient.connect(options),
};

/**
 * Gives a Nest application a connected TidelineClient to inject. The application starts when a cluster has answered; on shutdown the
 * client is closed after the modules that use it: writes it has taken are waited for.
 *
 *     imports: [TidelineModule.forRoot({ addresses: ['127.0.0.1:7401'] })]
 *     constructor(private readonly tideline: TidelineClient) {}
 */
@Module({})
export class TidelineModule implements OnApplicationShutdown {
  constructor(@Inject(TidelineClient) private readonly client: TidelineClient) {}

  static forRoot({ isGlobal = true, ...options }: TidelineModuleOptions): DynamicModule {
    return {
      module: TidelineModule,
      global: isGlobal,
      providers: [{ provide: CLIENT_OPTIONS, useValue: options }, clientProvider],
      exports: [TidelineClient],
    };
  }

  static forRootAsync({ isGlobal = true, imports, useFactory, inject }: TidelineModuleAsyncOptions): DynamicModule {
    return {
      module: TidelineModule,
      global: isGlobal,
      imports: imports ?? [],
      providers: [{ provide: CLIENT_OPTIONS, useFactory, inject: inject ?? [] }, clientProvider],
      exports: [TidelineClient],
    };
  }

  onApplicationShutdown(): Promise<void> {
    return this.client.close();
  }
}
