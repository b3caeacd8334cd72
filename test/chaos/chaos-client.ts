/** What became of one call, however it was made. */
export type CallResult<T> =
  | { readonly kind: 'ok'; readonly value: T }
  /** It has not and will not take effect. */
  | { readonly kind: 'rejected'; readonly code: string }
  /** It may have taken effect, or may still. */
  | { readonly kind: 'unknown'; readonly code: string };

export interface Appended {
  readonly partition: number;
  readonly offset: number;
}

/** A command of a data type, on an entry of the view `default`. */
export interface Command {
  readonly key: string;
  readonly op: string;
  readonly args: readonly string[];
}

export interface CommandResult {
  readonly result: unknown;
  readonly offset: number;
}

/** The calls the load makes, over one protocol. All reads are linearizable. */
export interface ChaosClient {
  readonly name: string;
  get(key: string): Promise<CallResult<string | null>>;
  put(key: string, value: string): Promise<CallResult<void>>;
  delete(key: string): Promise<CallResult<void>>;
  /** `condition-failed` is a rejection. */
  putIfAbsent(key: string, value: string): Promise<CallResult<void>>;
  append(topic: string, record: { readonly key: string; readonly value: string }): Promise<CallResult<Appended>>;
  /** A put with a time to live, to another view; its offset. */
  putLease(
    view: string,
    lease: { readonly key: string; readonly value: string; readonly ttlMs: number },
  ): Promise<CallResult<number>>;
  command(command: Command): Promise<CallResult<CommandResult>>;
  close(): Promise<void>;
}

/** The view whose entries get, put, delete and command are about. */
export const VIEW = 'default';
