import { expect, test } from '@jest/globals';
import { AwakeClock } from './awake-clock.js';
import { Statistics } from './statistics.js';

test('a pause is counted for every fault that was there during it, and not for the start or for a standstill of everything', () => {
  let now = 0;
  const said: string[] = [];
  const clock = new AwakeClock({ now: () => now });
  const statistics = new Statistics(clock, (text) => said.push(text));
  const pass = (ms: number): void => {
    for (const end = now + ms; now < end;) {
      now = Math.min(end, now + 100);
      void clock.ms;
    }
  };
  pass(10_000);
  statistics.acknowledged();
  statistics.faultBegins('kill');
  pass(1000);
  statistics.faultEnds('kill');
  pass(500);
  statistics.acknowledged();
  statistics.faultBegins('cut');
  pass(4000);
  statistics.acknowledged();
  statistics.faultEnds('cut');
  // Suspended: nobody looks.
  now += 60_000;
  statistics.acknowledged();
  expect([...statistics.pauses]).toEqual([
    ['kill', 1500],
    ['cut', 4000],
  ]);
  expect(statistics.longestPauseMs).toBe(4000);
  expect(said).toEqual(['no write was acknowledged for 4000 ms: cut']);
});
