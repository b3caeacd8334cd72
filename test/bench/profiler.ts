/**
 * Loaded with `--import` into the servers of `npm run bench -- NAME --profile DIR`. Each SIGUSR2 begins a profile, or ends it and writes it to
 * BENCH_PROFILE_DIR: so that only what is measured is in it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';

const SAMPLE_US = 500;

const directory = process.env['BENCH_PROFILE_DIR'];
if (directory !== undefined) {
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: SAMPLE_US });
  let number = 0;
  let running = false;
  process.on('SIGUSR2', () => {
    running = !running;
    if (running) {
      session.post('Profiler.start');
      return;
    }
    session.post('Profiler.stop', (error, result) => {
      if (error) return;
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, `${process.pid}-${++number}.cpuprofile`), JSON.stringify(result.profile));
    });
  });
}
