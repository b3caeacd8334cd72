/**
 * The thread that writes the archive to SQLite, on a connection of its own: SQLite is synchronous, and a transaction whose keys are all
 * over the index, or that ends in a checkpoint, takes tens of milliseconds, in which the process would answer nobody.
 *
 * An ArchiveMessage in, one transaction, an ArchiveAnswer out, in this order; `null` closes the file and ends the thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import BetterSqlite3 from 'better-sqlite3';
import { entriesOf, type ArchiveAnswer, type ArchiveMessage } from './archive-message.js';
import { parametersOf, sqliteInsert, type ArchiveParameters } from './archive-rows.js';
import { prepareSqlite, SQLITE_BUSY_TIMEOUT_MS } from './sqlite-database.js';

const path = workerData as string;
const port = parentPort!;
let database: BetterSqlite3.Database | null = null;
let insert: ((rows: readonly ArchiveParameters[]) => number) | null = null;

/** Opened when it is first needed, and again if that failed: what is wrong with it is said in the answer. */
const opened = (): ((rows: readonly ArchiveParameters[]) => number) => {
  if (insert !== null) return insert;
  database ??= new BetterSqlite3(path, { timeout: SQLITE_BUSY_TIMEOUT_MS, fileMustExist: true });
  prepareSqlite(database);
  return (insert = sqliteInsert(database));
};

const answerTo = (message: ArchiveMessage): ArchiveAnswer => {
  const { id, archivedAt } = message;
  try {
    return { id, written: opened()(entriesOf(message).map((entry) => parametersOf(entry, archivedAt))) };
  } catch (error) {
    const { code, message: why } = error as { readonly code?: string; readonly message?: string };
    return { id, ...(typeof code === 'string' && { code }), message: why ?? String(error) };
  }
};

port.on('message', (message: ArchiveMessage | null) => {
  if (message !== null) {
    port.postMessage(answerTo(message));
    return;
  }
  database?.close();
  port.close();
});
