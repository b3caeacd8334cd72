import { RemoteViewQuery } from '#apps/gateway';
import { serveViewQuery, type ViewHost } from '#apps/materializer';
import { systemClock, systemRng, systemScheduler } from '#kernel';
import { tcpTransport } from '#net';

export interface ViewHostOverTcp {
  readonly query: RemoteViewQuery;
  close(): Promise<void>;
}

/** A host as a process of its own would serve it, and who asks it. */
export const serveOverTcp = async (host: ViewHost): Promise<ViewHostOverTcp> => {
  const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'test', addresses: {} };
  const listener = await tcpTransport.listen({ host: '127.0.0.1', port: 0 }, hello, serveViewQuery(host));
  const query = new RemoteViewQuery({
    transport: tcpTransport,
    addresses: [`127.0.0.1:${listener.port}`],
    clock: systemClock,
    scheduler: systemScheduler,
    rng: systemRng,
  });
  return {
    query,
    close: async () => {
      await query.close();
      await host.close();
      await listener.close();
    },
  };
};
