import { TidelineError, type GroupId, type LogTime, type NodeId, type Offset } from '#kernel';
import type { Acks, AppendResult, Barrier, ClusterDescription, FetchResult, LogNode, TailChunk } from '#command-log';
import { Observable, type Subscription } from 'rxjs';
import type { Network } from './network.js';

/** The process that answers, and which of its lives it is. */
export interface CallTarget {
  readonly id: NodeId;
  readonly logNode: LogNode | null;
  readonly life: number;
}

/** Another machine's log node, over the simulated network: the counterpart of the framed TCP client. */
export class RemoteNode implements LogNode {
  readonly id: NodeId;

  constructor(
    private readonly network: Network,
    private readonly from: NodeId,
    private readonly isAlive: () => boolean,
    private readonly target: CallTarget,
  ) {
    this.id = target.id;
  }

  private call<T>(run: (node: LogNode) => Promise<T>): Promise<T> {
    const { network, from, target } = this;
    return new Promise((resolve, reject) => {
      const lost = (): void => {
        if (this.isAlive()) reject(new TidelineError('connection-lost', `the connection to node ${this.id} ended`));
      };
      const answer = (give: () => void): void => {
        network.message(
          this.id,
          from,
          () => this.isAlive() && give(),
          () => lost(),
        );
      };
      network.message(
        from,
        this.id,
        () => {
          const { logNode, life } = target;
          if (logNode === null) {
            answer(lost);
            return;
          }
          const ended = (give: () => void): void => {
            // A process that died in the meantime answers nothing; its connections break.
            answer(target.life === life && target.logNode !== null ? give : lost);
          };
          run(logNode).then(
            (value) => ended(() => resolve(value)),
            (error: unknown) => ended(() => reject(error as Error)),
          );
        },
        lost,
      );
    });
  }

  append(group: GroupId, batch: Buffer, options: { readonly acks: Acks }): Promise<AppendResult> {
    const copy = Buffer.from(batch);
    return this.call((node) => node.append(group, Buffer.from(copy), options));
  }

  fetch(
    group: GroupId,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult> {
    return this.call((node) => node.fetch(group, from, options));
  }

  barrier(group: GroupId): Promise<Barrier> {
    return this.call((node) => node.barrier(group));
  }

  openSession(group: GroupId): Promise<number> {
    return this.call((node) => node.openSession(group));
  }

  offsetAtTime(group: GroupId, time: LogTime): Promise<Offset> {
    return this.call((node) => node.offsetAtTime(group, time));
  }

  transferLeadership(group: GroupId, to: NodeId): Promise<void> {
    return this.call((node) => node.transferLeadership(group, to));
  }

  describe(): Promise<ClusterDescription> {
    return this.call((node) => node.describe());
  }

  /** Chunks in order, each a message of its own; the stream breaks when one of them does. */
  tail(group: GroupId, from: Offset, options: { readonly creditBytes: number }): Observable<TailChunk> {
    const { network, target } = this;
    return new Observable((subscriber) => {
      let remote: Subscription | null = null;
      let life = 0;
      let ended = false;
      let sent = 0;
      let arrived = 0;
      const early = new Map<number, TailChunk>();
      const lost = (): void => {
        if (ended || !this.isAlive()) return;
        ended = true;
        subscriber.error(new TidelineError('connection-lost', `the tail of node ${this.id} broke off`));
      };
      const deliver = (number: number, chunk: TailChunk): void => {
        early.set(number, chunk);
        for (let next = early.get(arrived); next !== undefined && !ended; next = early.get(arrived)) {
          early.delete(arrived++);
          subscriber.next(next);
        }
      };
      network.message(
        this.from,
        this.id,
        () => {
          const { logNode } = target;
          if (logNode === null || ended) {
            network.message(this.id, this.from, lost, lost);
            return;
          }
          life = target.life;
          remote = logNode.tail(group, from, options).subscribe({
            next: (chunk) => {
              const number = sent++;
              const copy: TailChunk = {
                batches: Buffer.from(chunk.batches),
                nextOffset: chunk.nextOffset,
                commitOffset: chunk.commitOffset,
                release: () =>
                  network.message(
                    this.from,
                    this.id,
                    () => target.life === life && target.logNode !== null && chunk.release(),
                    lost,
                  ),
              };
              network.message(
                this.id,
                this.from,
                () =>
                  !ended &&
                  this.isAlive() &&
                  (target.life === life && target.logNode !== null ? deliver(number, copy) : lost()),
                lost,
              );
            },
            error: (error: unknown) =>
              network.message(
                this.id,
                this.from,
                () => {
                  if (ended || !this.isAlive()) return;
                  ended = true;
                  subscriber.error(error);
                },
                lost,
              ),
          });
        },
        lost,
      );
      // A process that dies sends nothing more: its tails notice by the silence of the connection.
      const stopWatching = this.watch(() => life !== 0 && (target.life !== life || target.logNode === null), lost);
      return () => {
        ended = true;
        stopWatching();
        if (target.life === life) remote?.unsubscribe();
      };
    });
  }

  /** Set by the machine: calls `then` some time after the condition came true. */
  watch: (isBroken: () => boolean, then: () => void) => () => void = () => () => undefined;
}
