import type { Offset } from '#kernel';
import { startsWith } from './key-prefix.js';
import type { Entry } from './view-query.js';

export type ViewChange =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: Buffer; readonly offset: Offset }
  /** The entry written at `offset` expired, or was evicted. */
  | { readonly type: 'expire'; readonly key: Buffer; readonly offset: Offset; readonly evicted: boolean };

export type ViewChangeListener = (change: ViewChange) => void;

interface Listener {
  readonly listener: ViewChangeListener;
  readonly prefix: Buffer;
}

const NO_PREFIX = Buffer.alloc(0);

/** Who wants to know what changes in a view. */
export class ChangeListeners {
  private listeners: readonly Listener[] = [];
  private firstError: unknown = undefined;

  get any(): boolean {
    return this.listeners.length > 0;
  }

  /** Returns how to stop. A listener that throws is dropped. */
  add(listener: ViewChangeListener, prefix: Uint8Array = NO_PREFIX): () => void {
    const item: Listener = { listener, prefix: Buffer.from(prefix) };
    this.listeners = [...this.listeners, item];
    return () => this.drop(item);
  }

  put(entry: Entry): void {
    this.tell(entry.key, { type: 'put', entry });
  }

  deleted(key: Buffer, offset: Offset): void {
    const own = Buffer.from(key);
    this.tell(own, { type: 'delete', key: own, offset });
  }

  expired(key: Buffer, offset: Offset, evicted = false): void {
    const own = Buffer.from(key);
    this.tell(own, { type: 'expire', key: own, offset, evicted });
  }

  /** What the first listener threw since this was last called, once everything has been told. */
  throwFirstError(): void {
    const error = this.firstError;
    if (error === undefined) return;
    this.firstError = undefined;
    throw error as Error;
  }

  private drop(item: Listener): void {
    this.listeners = this.listeners.filter((other) => other !== item);
  }

  private tell(key: Buffer, change: ViewChange): void {
    for (const item of this.listeners) {
      if (!startsWith(key, item.prefix)) continue;
      try {
        item.listener(change);
      } catch (error) {
        this.drop(item);
        this.firstError ??= error;
      }
    }
  }
}
