import type { GroupStatus } from '#replica';
import { must } from '../violation.js';

/** Far above what a healthy run needs, far below what a leak reaches. */
const EVENTS_WAITING_MAX = 50_000;
const UNCOMMITTED_BATCHES_MAX = 20_000;
const OPEN_FILES_MAX = 300;

/** 26: queues, sessions, open files and what is uncommitted stay bounded. */
export class BoundsChecker {
  constructor(private readonly limits: { readonly sessionsMax: number; readonly pendingAppendsMax: number }) {}

  group(node: number, status: GroupStatus): void {
    const { sessions, pendingAppends, lastOffset, commitOffset } = status;
    must(sessions <= this.limits.sessionsMax, 26, () => `node ${node} keeps ${sessions} sessions`);
    must(pendingAppends <= this.limits.pendingAppendsMax, 26, () => `${pendingAppends} appends wait on node ${node}`);
    must(
      lastOffset - commitOffset <= UNCOMMITTED_BATCHES_MAX,
      26,
      () => `${lastOffset - commitOffset} offsets are not committed on node ${node}`,
    );
  }

  files(node: number, open: number): void {
    must(open <= OPEN_FILES_MAX, 26, () => `node ${node} has ${open} files open`);
  }

  queue(size: number): void {
    must(size <= EVENTS_WAITING_MAX, 26, () => `${size} events wait`);
  }
}
