import { Inject, Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { tcpTransport, type Hello, type Listener } from '#net';
import { OPTIONS, type TidelineOptions } from '#platform';
import { GatewayServices } from '../gateway-services.js';
import { serveGateway } from './native-service.js';

/** Listens for native clients. */
@Injectable()
export class NativeEndpoint implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private listener: Listener | null = null;

  constructor(
    @Inject(OPTIONS) private readonly options: TidelineOptions,
    @Inject(GatewayServices) private readonly services: GatewayServices,
  ) {}

  /** As bound. */
  get port(): number {
    return this.listener?.port ?? this.options.nativePort;
  }

  async onApplicationBootstrap(): Promise<void> {
    const { bind, nativePort, connectionsMax } = this.options;
    const hello: Hello = { nodeId: 0, clusterId: '', service: 'gateway', software: 'tideline', addresses: {} };
    this.listener = await tcpTransport.listen({ host: bind, port: nativePort }, hello, serveGateway(this.services), {
      connectionsMax,
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.listener?.close();
  }
}
