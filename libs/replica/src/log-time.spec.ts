import { describe, expect, test } from '@jest/globals';
import { asLogTime } from '#kernel';
import { LOG_TIME_LEAD_MS, LogClock } from './log-time.js';

describe('the clock of a leader', () => {
  test('follows the wall clock forwards and not back', () => {
    const clock = new LogClock();
    const stamps = [100, 200, 150, 199, 201].map((wall) => {
      const stamp = clock.peek(wall);
      clock.advance(stamp);
      return stamp;
    });
    expect(stamps).toEqual([100, 200, 200, 200, 201]);
  });

  test('begins a term ahead of the log it found', () => {
    const clock = new LogClock();
    clock.begin(asLogTime(5000));
    expect(clock.peek(0)).toBe(5000 + LOG_TIME_LEAD_MS);
    expect(clock.peek(9000)).toBe(9000);
  });

  test('stamps nothing below a time it has promised', () => {
    const clock = new LogClock();
    clock.advance(asLogTime(700));
    expect(clock.peek(300)).toBe(700);
  });
});
