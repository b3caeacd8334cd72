import { describe, expect, test } from '@jest/globals';
import type { Scheduler } from '#kernel';
import { HealthRegistry } from './health.js';

const timers = () => {
  const tasks = new Set<() => void>();
  const scheduler: Scheduler = {
    defer: (task) => void tasks.add(task),
    after: (_, task) => {
      tasks.add(task);
      return () => tasks.delete(task);
    },
  };
  return { scheduler, tasks };
};

describe('readiness', () => {
  test('a node without checks is ready', async () => {
    expect(await new HealthRegistry().ready({ verbose: true })).toEqual({ status: 200, body: { status: 'ready' } });
  });

  test('lists failed checks always and the others if asked', async () => {
    const health = new HealthRegistry();
    health.register('leader', () => ({ ok: true, detail: '8 of 8 partitions' }));
    health.register('catalog', () => Promise.reject(new Error('connection refused')));
    health.register('storage', () => {
      throw new Error('disk gone');
    });
    const brief = await health.ready({ verbose: false });
    expect(brief).toEqual({
      status: 503,
      body: {
        status: 'not-ready',
        checks: [
          { name: 'catalog', ok: false, detail: 'connection refused' },
          { name: 'storage', ok: false, detail: 'disk gone' },
        ],
      },
    });
    expect((await health.ready({ verbose: true })).body.checks).toHaveLength(3);
  });

  test('a check that hangs has failed, and no timer is left behind by one that answers', async () => {
    const { scheduler, tasks } = timers();
    const health = new HealthRegistry(scheduler);
    health.register('view-lag', () => ({ ok: true }));
    expect((await health.ready({ verbose: false })).status).toBe(200);
    expect(tasks.size).toBe(0);
    health.register('catalog', () => new Promise(() => undefined));
    const report = health.ready({ verbose: false });
    // The check that answers takes its timer away within a few microtasks.
    while (tasks.size > 1) await Promise.resolve();
    for (const task of tasks) task();
    expect((await report).body.checks).toEqual([{ name: 'catalog', ok: false, detail: 'no answer within 1000 ms' }]);
  });

  test('a node that stops is alive but not ready', async () => {
    const health = new HealthRegistry();
    health.drain();
    expect((await health.ready({ verbose: false })).status).toBe(503);
    expect(health.live().status).toBe(200);
  });

  test('taking a check away does not take its successor of the same name', async () => {
    const health = new HealthRegistry();
    const remove = health.register('leader', () => ({ ok: false }));
    health.register('leader', () => ({ ok: true }));
    remove();
    expect((await health.ready({ verbose: true })).body.checks).toEqual([{ name: 'leader', ok: true }]);
  });
});
