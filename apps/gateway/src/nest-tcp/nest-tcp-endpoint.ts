import {
  Inject,
  Injectable,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type INestMicroservice,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TidelineJsonTcpServer, TidelineRpcExceptionFilter } from '#net/nest';
import { OPTIONS, type TidelineOptions } from '#platform';
import { GatewayServices } from '../gateway-services.js';
import { PatternsController } from './patterns.controller.js';

@Module({})
class PatternsModule {
  static over(services: GatewayServices): DynamicModule {
    return {
      module: PatternsModule,
      controllers: [PatternsController],
      providers: [{ provide: GatewayServices, useValue: services }],
    };
  }
}

/**
 * Nest microservice clients come here. A microservice of its own beside the HTTP application, over the same services: so the module brings its
 * listener along whatever process it is part of, and the patterns are not run through the HTTP application's pipeline.
 */
@Injectable()
export class NestTcpEndpoint implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly server: TidelineJsonTcpServer;
  private microservice: INestMicroservice | null = null;

  constructor(
    @Inject(OPTIONS) private readonly options: TidelineOptions,
    @Inject(GatewayServices) private readonly services: GatewayServices,
  ) {
    const { bind, nestPort, connectionsMax, requestBytesMax } = options;
    this.server = new TidelineJsonTcpServer({
      host: bind,
      port: nestPort,
      connectionsMax,
      messageBytesMax: requestBytesMax,
    });
  }

  /** As bound. */
  get port(): number {
    const address = this.server.unwrap<{ address(): { port: number } | null }>().address();
    return address?.port ?? this.options.nestPort;
  }

  async onApplicationBootstrap(): Promise<void> {
    this.microservice = await NestFactory.createMicroservice(PatternsModule.over(this.services), {
      strategy: this.server,
      abortOnError: false,
    });
    this.microservice.useGlobalFilters(new TidelineRpcExceptionFilter());
    await this.microservice.listen();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.microservice?.close();
  }
}
