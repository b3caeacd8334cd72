import { Presets, SingleBar } from 'cli-progress';

/** A bar with rate and ETA on a terminal, a plain line now and then elsewhere. */
export interface Progress {
  update(done: number): void;
  finish(): void;
}

const LINE_EVERY_MS = 2000;
const duration = (seconds: number): string =>
  seconds < 90 ? `${Math.max(0, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;

export const startProgress = (label: string, total: number, out: NodeJS.WriteStream = process.stderr): Progress => {
  const began = performance.now();
  const rate = (done: number): number => done / Math.max(0.001, (performance.now() - began) / 1000);
  if (out.isTTY) {
    const bar = new SingleBar(
      {
        format: `${label} [{bar}] {percentage}% {value}/{total} {rate}/s ETA {left}`,
        stream: out,
        hideCursor: true,
        barsize: 30,
      },
      Presets.legacy,
    );
    bar.start(total, 0, { rate: '–', left: '–' });
    const show = (done: number): void =>
      bar.update(done, {
        rate: Math.round(rate(done)).toLocaleString('en-US'),
        left: duration((total - done) / Math.max(1, rate(done))),
      });
    return { update: show, finish: () => bar.stop() };
  }
  let last = began;
  let latest = 0;
  const print = (): void => {
    const percent = total > 0 ? Math.floor((latest / total) * 100) : 100;
    out.write(
      `${label} ${percent}% ${latest}/${total} ${Math.round(rate(latest))}/s ETA ${duration((total - latest) / Math.max(1, rate(latest)))}\n`,
    );
  };
  return {
    update: (done) => {
      latest = done;
      if (performance.now() - last < LINE_EVERY_MS) return;
      last = performance.now();
      print();
    },
    finish: print,
  };
};
