/**
 * The thread that writes the archive to SQLite, on a connection of its own: SQLite is synchronous, and a transaction whose keys are all
 * over the index, or that ends in a checkpoint, takes tens of milliseconds, in which the process would answer nobody.
 *
 * ArchiveMessages in, those that have come meanwhile in one transaction, for each an ArchiveAnswer out, in this order; `null` closes the file and
 * ends the thread.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import BetterSqlite3 from 'better-sqlite3';
import { entriesOf, type ArchiveAnswer, type ArchiveMessage } from './archive-message.js';
import { parametersOf, sqliteInsert, type SqliteInsert } from './archive-rows.js';
import { prepareSqlite, SQLITE_BUSY_TIMEOUT_MS } from './sqlite-database.js';

/** Of one transaction, about: what it leaves in the log until a checkpoint, and how long others wait to write. */
const TRANSACTION_BYTES_MAX = 16 * 1024 * 1024;

const path = workerData as string;
const port = parentPort!;
let database: BetterSqlite3.Database | null = null;
let insert: SqliteInsert | null = null;

/** Opened when it is first needed, and again if that failed: what is wrong with it is said in the answer. */
const opened = (): SqliteInsert => {
  if (insert !== null) return insert;
  database ??= new BetterSqlite3(path, { timeout: SQLITE_BUSY_TIMEOUT_MS, fileMustExist: true });
  prepareSqlite(database);
  return (insert = sqliteInsert(database));
};

const rowsOf = (message: ArchiveMessage) => entriesOf(message).map((entry) => parametersOf(entry, message.archivedAt));

const answersTo = (messages: readonly ArchiveMessage[]): ArchiveAnswer[] => {
  try {
    const written = opened()(messages.map(rowsOf));
    return messages.map(({ id }, place) => ({ id, written: written[place] }));
  } catch (error) {
    // What is wrong with one of them is not to be said of the others.
    if (messages.length > 1) return messages.flatMap((message) => answersTo([message]));
    const { code, message: why } = error as { readonly code?: string; readonly message?: string };
    return [{ id: messages[0].id, ...(typeof code === 'string' && { code }), message: why ?? String(error) }];
  }
};

port.on('message', (first: ArchiveMessage | null) => {
  const messages: ArchiveMessage[] = [];
  let message: ArchiveMessage | null | undefined = first;
  for (let bytes = 0; message; message = bytes < TRANSACTION_BYTES_MAX ? received() : undefined) {
    messages.push(message);
    bytes += message.bytes.length;
  }
  if (messages.length > 0) for (const answer of answersTo(messages)) port.postMessage(answer);
  if (message === undefined) return;
  database?.close();
  port.close();
});

const received = (): ArchiveMessage | null | undefined =>
  receiveMessageOnPort(port)?.message as ArchiveMessage | null | undefined;
