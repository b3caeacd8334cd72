import 'reflect-metadata';
import { describe, expect, test } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { systemClock } from '#kernel';
import { tcpTransport } from '#net';
import { FakeGatewayCluster } from '../testing/index.js';
import { TidelineClient } from '../tideline-client.js';
import { TidelineModule } from './index.js';

@Injectable()
class Orders {
  constructor(readonly tideline: TidelineClient) {}
}

@Module({ providers: [Orders] })
class OrdersModule {}

const withCluster = async (run: (address: string, cluster: FakeGatewayCluster) => Promise<void>): Promise<void> => {
  const cluster = new FakeGatewayCluster({
    clock: systemClock,
    transportOf: () => tcpTransport,
    nodes: 1,
    topics: { orders: 1 },
  });
  const [address] = await cluster.start();
  try {
    await run(address, cluster);
  } finally {
    await cluster.stop();
  }
};

describe('TidelineModule', () => {
  test('gives every module a connected client over TCP and closes it with the application', () =>
    withCluster(async (address, cluster) => {
      const moduleRef = await Test.createTestingModule({
        imports: [TidelineModule.forRoot({ addresses: [address] }), OrdersModule],
      }).compile();
      await moduleRef.init();
      const { tideline } = moduleRef.get(Orders, { strict: false });
      await tideline.set('orders', 'k', 'v');
      expect((await tideline.get('orders', 'k'))!.text()).toBe('v');
      const pending = tideline.append('orders', { value: 'last' });
      await moduleRef.close();
      await pending;
      expect(cluster.partition('orders').values).toEqual(['v', 'last']);
      await expect(tideline.set('orders', 'k', 'v')).rejects.toMatchObject({ code: 'shutting-down' });
    }));

  test('takes its options from a factory', () =>
    withCluster(async (address) => {
      const moduleRef = await Test.createTestingModule({
        imports: [
          TidelineModule.forRootAsync({
            inject: ['ADDRESS'],
            useFactory: (given: string) => ({ addresses: [given] }),
            imports: [
              {
                module: class Addresses {},
                providers: [{ provide: 'ADDRESS', useValue: address }],
                exports: ['ADDRESS'],
              },
            ],
          }),
        ],
      }).compile();
      expect(moduleRef.get(TidelineClient, { strict: false }).cluster.clusterId).toBe('fake');
      await moduleRef.close();
    }));

  test('the application does not start without a cluster', async () => {
    const starting = Test.createTestingModule({
      imports: [TidelineModule.forRoot({ addresses: ['127.0.0.1:1'], timeoutMs: 50 })],
    }).compile();
    await expect(starting).rejects.toMatchObject({ code: 'connection-lost' });
  });
});
