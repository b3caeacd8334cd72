import {
  VIEW_DEFAULTS,
  asGroupId,
  asLogTime,
  asNodeId,
  asOffset,
  asPartitionId,
  asTerm,
  type ViewSettings,
} from '#kernel';
import type { ClusterDescription, CommandLog, TailChunk } from '#command-log';
import { batchLastOffset } from '#wire';
import { Observable, of } from 'rxjs';

/** Topic of the log. */
export const GENERATED = 'generated';

/** A committed log that is made while it is read, so that it takes no memory beside the view that is built from it. Reads only. */
export class GeneratedLog implements CommandLog {
  private last = 0;
  private send: () => void = () => undefined;

  constructor(
    private readonly batches: Iterator<Buffer>,
    private readonly view: Partial<ViewSettings> = {},
  ) {}

  describe(): ClusterDescription {
    const offset = asOffset(this.last);
    const partition = {
      partition: asPartitionId(0),
      group: asGroupId(1),
      leader: asNodeId(1),
      term: asTerm(1),
      replicas: [asNodeId(1)],
      learners: [],
      commitOffset: offset,
      logStartOffset: asOffset(1),
    };
    const topic = {
      name: GENERATED,
      partitions: [partition],
      replication: 1,
      retention: { ms: null, bytes: null },
      view: { kind: 'map' as const, ...VIEW_DEFAULTS, ...this.view },
    };
    return { clusterId: GENERATED, node: asNodeId(1), nodes: [], topics: [topic] };
  }

  get changes(): Observable<ClusterDescription> {
    return of(this.describe());
  }

  /** As far ahead as the credit allows. */
  tail(_target: unknown, _from: unknown, { creditBytes = 1024 * 1024 } = {}): Observable<TailChunk> {
    return new Observable((subscriber) => {
      let credit = creditBytes;
      let scheduled = false;
      const schedule = (): void => {
        if (scheduled) return;
        scheduled = true;
        setImmediate(send);
      };
      // One a turn: making them is not what is measured.
      const send = (): void => {
        scheduled = false;
        if (credit <= 0 || subscriber.closed) return;
        const { value: batches, done } = this.batches.next();
        if (done) return;
        credit -= batches.length;
        this.last = batchLastOffset(batches);
        subscriber.next({
          batches,
          nextOffset: asOffset(this.last + 1),
          commitOffset: asOffset(this.last),
          release: () => {
            credit += batches.length;
            schedule();
          },
        });
        schedule();
      };
      this.send = schedule;
      schedule();
    });
  }

  /** There are more batches, after there were none. */
  wake(): void {
    this.send();
  }

  barrier(): ReturnType<CommandLog['barrier']> {
    return Promise.resolve({ offset: asOffset(0), time: asLogTime(0), term: asTerm(1), node: asNodeId(1) });
  }

  topic(): ReturnType<CommandLog['topic']> {
    return Promise.resolve(this.describe().topics[0]);
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  append(): never {
    return readOnly();
  }

  fetch(): never {
    return readOnly();
  }

  openSession(): never {
    return readOnly();
  }

  offsetAtTime(): never {
    return readOnly();
  }

  transferLeadership(): never {
    return readOnly();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const readOnly = (): never => {
  throw new Error('the log is only read');
};
