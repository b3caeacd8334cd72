import { describe, expect, test } from '@jest/globals';
import { Metrics } from './metrics.js';

describe('metrics', () => {
  test('asking twice for a name gives the same metric', () => {
    const metrics = new Metrics();
    metrics.counter('tideline_view_expired_total').inc({ view: 'v', partition: '0' }, 2);
    metrics.counter('tideline_view_expired_total').labels({ view: 'v', partition: '0' }).inc();
    expect(metrics.gauge('tideline_raft_term')).toBe(metrics.gauge('tideline_raft_term'));
    expect(metrics.histogram('tideline_storage_sync_seconds')).toBe(metrics.histogram('tideline_storage_sync_seconds'));
    return expect(metrics.render()).resolves.toContain('tideline_view_expired_total{view="v",partition="0"} 3');
  });

  test('a collector sets its gauge when someone asks, until it is ended', async () => {
    const metrics = new Metrics({ labels: { node: '2' } });
    let entries = 5;
    const end = metrics.collect('tideline_view_entries', (gauge) => gauge.set({ view: 'v', partition: '0' }, entries));
    expect(await metrics.render()).toContain('tideline_view_entries{view="v",partition="0",node="2"} 5');
    entries = 6;
    expect(await metrics.render()).toContain('} 6');
    end();
    entries = 7;
    expect(await metrics.render()).toContain('} 6');
  });

  test('two registries share nothing', async () => {
    const one = new Metrics();
    one.histogram('tideline_gateway_request_seconds').observe({ route: 'r', outcome: 'ok' }, 0.002);
    expect(await one.render()).toContain('le="0.0025",route="r",outcome="ok"} 1');
    expect(await new Metrics().render()).not.toContain('gateway');
  });
});
