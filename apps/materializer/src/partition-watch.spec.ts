import { describe, expect, test } from '@jest/globals';
import type { TidelineError } from '#kernel';
import { MapView, type WatchChunk } from '#views';
import { VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { BatchSource } from '../../../libs/views/src/testing/index.js';
import { watchPartition } from './partition-watch.js';

const CHANGES_MAX = 100;

/** Looks at what it is given when it wants to: a chunk is released by `read`. */
const start = () => {
  const time = new VirtualTime();
  const source = new BatchSource(1000);
  const view = new MapView();
  const put = (name: string, value: string): void => {
    view.applyBatches(source.records([{ key: Buffer.from(name), value: Buffer.from(value) }]));
  };
  const open = new Set<unknown>();
  const watch = () => {
    const unread: WatchChunk[] = [];
    const seen: string[] = [];
    let ended: TidelineError | null = null;
    const opened = (end: unknown): (() => void) => {
      open.add(end);
      return () => open.delete(end);
    };
    watchPartition(view, {
      partition: 0,
      prefix: Buffer.alloc(0),
      scheduler: time,
      opened,
      changesMax: CHANGES_MAX,
    }).subscribe({ next: (chunk) => unread.push(chunk), error: (error: TidelineError) => (ended = error) });
    const read = async (): Promise<void> => {
      await time.settle();
      for (let chunk = unread.shift(); chunk; chunk = unread.shift()) {
        for (const event of chunk.events)
          seen.push(event.type === 'put' ? `${String(event.entry.key)}=${String(event.entry.value)}` : event.type);
        chunk.release();
        await time.settle();
      }
    };
    return { read, seen, ended: () => ended };
  };
  return { time, put, watch, open: () => open.size };
};

describe('a watch of one partition', () => {
  test('whose reader does not read ends with too-slow when more changes wait than it may keep; the others go on', async () => {
    const { time, put, watch, open } = start();
    put('a', '0');
    const slow = watch();
    const quick = watch();
    await slow.read();
    await quick.read();
    // Two chunks are on their way to it, and then so many wait as may.
    for (let n = 1; n <= 2; n++) {
      put('a', String(n));
      await time.settle();
    }
    for (let n = 3; n <= CHANGES_MAX + 2; n++) put('a', String(n));
    await quick.read();
    expect([slow.ended(), open()]).toEqual([null, 2]);
    put('a', 'one more');
    await quick.read();
    expect(slow.ended()).toMatchObject({ code: 'too-slow', message: expect.stringContaining('101 changes wait') });
    expect(open()).toBe(1);
    put('a', 'last');
    await quick.read();
    expect([quick.ended(), quick.seen.length, quick.seen.at(-1)]).toEqual([null, CHANGES_MAX + 6, 'a=last']);
    // What had gone out to the slow one is there; nothing was kept for it after its end.
    await slow.read();
    expect(slow.seen).toEqual(['a=0', 'live', 'a=1', 'a=2']);
    const again = watch();
    await again.read();
    expect(again.seen).toEqual(['a=last', 'live']);
  });

  test('keeps nothing of keys that are still to come, however many change', async () => {
    const { time, put, watch } = start();
    for (let n = 0; n < 2000; n++) put(`k${String(n).padStart(4, '0')}`, 'old');
    const slow = watch();
    await time.settle();
    for (let n = 0; n < 10 * CHANGES_MAX; n++) put('k1999', String(n));
    await slow.read();
    expect(slow.ended()).toBeNull();
    expect(slow.seen.filter((text) => text.startsWith('k1999'))).toEqual(['k1999=999']);
    expect(slow.seen).toHaveLength(2001);
  });
});
