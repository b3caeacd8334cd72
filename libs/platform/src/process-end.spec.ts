import { EventEmitter } from 'node:events';
import { describe, expect, test } from '@jest/globals';
import { TidelineError, type Scheduler } from '#kernel';
import { closeOnSignal, endOnUncaughtErrors, fatal, runMain, startupMessage, type ProcessPort } from './process-end.js';

class FakeProcess extends EventEmitter {
  text = '';
  readonly exits: number[] = [];
  readonly stderr = { write: (text: string) => (this.text += text) };
  readonly exited = new Promise<void>((resolve) => this.once('exited', resolve));

  exit(code: number): void {
    this.exits.push(code);
    this.emit('exited');
  }

  get port(): ProcessPort {
    return this as unknown as ProcessPort;
  }
}

const manual = () => {
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

const hanging = { close: () => new Promise<void>(() => undefined) };

describe('signals', () => {
  test('the first drains, closes and exits with 0', async () => {
    const process = new FakeProcess();
    const { scheduler, tasks } = manual();
    const order: string[] = [];
    const app = { close: async () => void order.push('close') };
    closeOnSignal(app, { timeoutMs: 5000, process: process.port, scheduler, drain: () => order.push('drain') });
    process.emit('SIGTERM', 'SIGTERM');
    await process.exited;
    expect(order).toEqual(['drain', 'close']);
    expect(process.exits).toEqual([0]);
    expect(tasks.size).toBe(0);
  });

  test('the second ends the process at once', () => {
    const process = new FakeProcess();
    closeOnSignal(hanging, { timeoutMs: 5000, process: process.port, scheduler: manual().scheduler });
    process.emit('SIGINT', 'SIGINT');
    expect(process.exits).toEqual([]);
    process.emit('SIGINT', 'SIGINT');
    expect(process.exits).toEqual([130]);
  });

  test('a stop that takes too long ends with 1', () => {
    const process = new FakeProcess();
    const { scheduler, tasks } = manual();
    closeOnSignal(hanging, { timeoutMs: 5000, process: process.port, scheduler });
    process.emit('SIGTERM', 'SIGTERM');
    for (const task of tasks) task();
    expect(process.exits).toEqual([1]);
    expect(process.text).toContain('not stopped within 5000 ms');
  });

  test('a stop that fails says why and ends with 1', async () => {
    const process = new FakeProcess();
    const app = { close: () => Promise.reject(new Error('stuck')) };
    closeOnSignal(app, { timeoutMs: 5000, process: process.port, scheduler: manual().scheduler });
    process.emit('SIGTERM', 'SIGTERM');
    await process.exited;
    expect(process.exits).toEqual([1]);
    expect(process.text).toContain('stopping failed: stuck');
  });

  test('are left alone again once the returned function was called', () => {
    const process = new FakeProcess();
    closeOnSignal(hanging, { timeoutMs: 1, process: process.port })();
    expect(process.listenerCount('SIGTERM') + process.listenerCount('SIGINT')).toBe(0);
  });
});

describe('a start that fails', () => {
  const run = async (error: unknown) => {
    const process = new FakeProcess();
    await runMain(async () => {
      throw error;
    }, process.port);
    return process;
  };

  test('because of options exits with 2 and their message, without a stack', async () => {
    const process = await run(new TidelineError('bad-option', 'an option cannot be used:\n  --x: no such option'));
    expect(process.exits).toEqual([2]);
    expect(process.text).toBe('tideline: an option cannot be used:\n  --x: no such option\n');
  });

  test('for another reason exits with 1', async () => {
    expect((await run(new TidelineError('directory-locked', 'locked by process 7'))).exits).toEqual([1]);
    const defect = await run(new Error('oops', { cause: new Error('deep down') }));
    expect(defect.exits).toEqual([1]);
    expect(defect.text).toMatch(/^tideline: the start failed: oops: deep down\n\s+at /);
  });

  test('and succeeds quietly otherwise', async () => {
    const process = new FakeProcess();
    await runMain(() => Promise.resolve(), process.port);
    expect(process.exits).toEqual([]);
    expect(process.text).toBe('');
  });

  test.each([
    [{ code: 'EADDRINUSE', address: '127.0.0.1', port: 7400 }, 'another process listens on 127.0.0.1:7400'],
    [{ code: 'EADDRNOTAVAIL', address: '10.9.9.9' }, '10.9.9.9 is not an address of this machine'],
    [{ code: 'EACCES', path: '/root/x' }, 'no permission to use /root/x'],
    [{ code: 'EACCES', address: '127.0.0.1', port: 80 }, 'choose ports above 1023'],
    [{ code: 'ERR_DLOPEN_FAILED' }, 'npm rebuild'],
  ])('tells what %j means', (fields, message) => {
    expect(startupMessage(Object.assign(new Error('raw'), fields))).toContain(message);
    expect(startupMessage(Object.assign(new Error('raw'), fields))).not.toMatch(/^\s+at /m);
  });
});

describe('fatal errors', () => {
  test('end the process with a message and a stack', () => {
    const process = new FakeProcess();
    fatal(new TidelineError('internal', 'sync failed', { cause: new Error('EIO') }), process.port);
    expect(process.exits).toEqual([1]);
    expect(process.text).toMatch(/^fatal: sync failed: EIO\n\s+at /);
  });

  test('are those nobody caught, too', () => {
    const process = new FakeProcess();
    const stop = endOnUncaughtErrors(process.port);
    process.emit('unhandledRejection', 'a string');
    expect(process.exits).toEqual([1]);
    stop();
    expect(process.eventNames().filter((name) => name !== 'exited')).toEqual([]);
  });
});
