import { BaseRpcContext } from '@nestjs/microservices';
import { Observable, concatMap, of, type MonoTypeOperatorFunction } from 'rxjs';

/** Whether the caller's end has room for another item of a stream. */
export interface Pace {
  readonly ready: boolean;
  /** Once, when it is ready; never if the stream ends before. */
  whenReady(callback: () => void): void;
}

/** The context (`@Ctx()`) of handlers behind our strategies. */
export class TidelineRpcContext extends BaseRpcContext<[unknown, string, unknown, Pace]> {
  /** The socket wrapper of the JSON server, the Connection of the framed one. */
  getSocketRef(): unknown {
    return this.args[0];
  }
  getPattern(): string {
    return this.args[1];
  }
  getMetadata(): unknown {
    return this.args[2];
  }
  getPace(): Pace {
    return this.args[3];
  }
}

/**
 * Passes items on only while the caller takes them. An Observable cannot be asked to wait, so this helps where the source stops by itself when
 * its items are not consumed (a tail whose chunks give their credit back downstream of this): what it emits meanwhile waits here.
 */
export const paced = <T>(context: TidelineRpcContext): MonoTypeOperatorFunction<T> => {
  const pace = context.getPace();
  return concatMap((item: T) =>
    pace.ready
      ? of(item)
      : new Observable<T>((subscriber) => {
          pace.whenReady(() => {
            subscriber.next(item);
            subscriber.complete();
          });
        }),
  );
};
