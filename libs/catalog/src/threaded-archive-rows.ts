import { Worker } from 'node:worker_threads';
import type { ArchiveEntry } from './archive.js';
import { messageOf, type ArchiveAnswer, type ArchiveMessage } from './archive-message.js';
import type { ArchiveRows } from './sql-archive.js';

/** Of the thread, which makes little garbage: the size the process is started with is for those who make more. */
const YOUNG_GENERATION_MIB = 8;
const TRANSACTION_ENTRIES_MAX = 2000;

interface Waiting {
  readonly resolve: (written: number) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Writes archive entries to an SQLite file in a thread (archive-thread.ts), which is started by the first of them. One that dies takes what
 * it was given with it, unanswered; the next write starts another.
 */
export class ThreadedArchiveRows implements ArchiveRows {
  readonly entriesMax = TRANSACTION_ENTRIES_MAX;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | null = null;
  #lastId = 0;
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** One transaction; synced when it resolves. They are written in the order of the calls. */
  insert(entries: readonly ArchiveEntry[], archivedAt: number): Promise<number> {
    if (this.#closed) return Promise.reject(new Error('the catalog is closed'));
    const id = ++this.#lastId;
    const message: ArchiveMessage = messageOf(entries, { id, archivedAt });
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      const thread = (this.#thread ??= this.#start());
      // The process stays for an answer, and for nothing else of the thread's.
      thread.ref();
      thread.postMessage(message, [message.numbers.buffer, message.bytes.buffer]);
    });
  }

  #start(): Worker {
    // As compiled, also where the tests run from the source.
    const thread = new Worker(new URL(import.meta.resolve('#catalog/archive-thread')), {
      name: 'archive',
      workerData: this.#path,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
    });
    let why: Error | null = null;
    thread.on('message', (answer: ArchiveAnswer) => this.#answered(thread, answer));
    thread.on('error', (error) => {
      why = error instanceof Error ? error : new Error(String(error));
    });
    thread.on('exit', () => {
      if (this.#thread === thread) this.#thread = null;
      const error = why ?? new Error('the thread that writes it ended');
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    return thread;
  }

  #answered(thread: Worker, answer: ArchiveAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) thread.unref();
    if ('written' in answer) waiting?.resolve(answer.written);
    else waiting?.reject(Object.assign(new Error(answer.message), { code: answer.code }));
  }

  /** After what was given to it is written. */
  async close(): Promise<void> {
    this.#closed = true;
    const thread = this.#thread;
    if (thread === null) return;
    await new Promise<void>((resolve) => {
      thread.once('exit', () => resolve());
      thread.ref();
      thread.postMessage(null);
    });
  }

  /** As a crash of the thread would: what it was given is written, or not. */
  async kill(): Promise<void> {
    await this.#thread?.terminate();
  }
}
