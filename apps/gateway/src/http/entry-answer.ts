import { TidelineError } from '#kernel';
import { PROBLEM_CONTENT_TYPE, toProblem, type Problem } from '#platform';
import { entityTag, matchesNoneOf } from '../entry-precondition.js';
import { isoTime, reasonOf } from '../record-json.js';
import type { EntryRead } from '../read-path.js';

const DEFAULT_CONTENT_TYPE = 'application/octet-stream';
const HEADER_TEXT = /^[\t\x20-\x7e]+$/;
/** Times that were written as text before, by the second. */
const HTTP_DATES_MAX = 1024;
const DATE_MS_MAX = 8.64e15;

export interface EntryAnswer {
  readonly status: number;
  /** Names and values in turn. */
  readonly headers: string[];
  /** null: none. */
  readonly body: Buffer | string | null;
}

const httpDates = new Map<number, string>();

/** RFC 9110 §5.6.7; entries are written by the thousand in a second. */
const httpDate = (ms: number): string => {
  const second = Math.floor(Math.min(ms, DATE_MS_MAX) / 1000);
  let text = httpDates.get(second);
  if (text === undefined) {
    if (httpDates.size >= HTTP_DATES_MAX) httpDates.clear();
    httpDates.set(second, (text = new Date(second * 1000).toUTCString()));
  }
  return text;
};

/** What a GET of an entry answers. */
export const entryAnswer = (view: string, read: EntryRead, ifNoneMatch: string | undefined): EntryAnswer => {
  const { position, term, node, departed = null } = read;
  const headers = [
    'tideline-offset',
    String(position.offset),
    'tideline-term',
    String(term),
    'tideline-node',
    String(node),
  ];
  const entry = read.entry ?? departed;
  if (entry === null) {
    const problem = unknownEntry(view);
    headers.push('content-type', `${PROBLEM_CONTENT_TYPE}; charset=utf-8`, 'cache-control', 'no-store');
    return { status: problem.status, headers, body: JSON.stringify(problem.body) };
  }
  headers.push('etag', entityTag(entry.offset), 'cache-control', 'no-cache', 'last-modified', httpDate(entry.logTime));
  if (entry.expiresAt !== null) headers.push('tideline-expires-at', isoTime(entry.expiresAt));
  if (departed !== null) {
    headers.push('tideline-departed', reasonOf(departed));
    if (departed.archivedAt !== null) headers.push('tideline-archived-at', isoTime(departed.archivedAt));
  }
  if (ifNoneMatch !== undefined && !matchesNoneOf(ifNoneMatch, entry.offset))
    return { status: 304, headers, body: null };
  const { contentType } = entry;
  headers.push(
    'content-type',
    contentType !== null && HEADER_TEXT.test(contentType) ? contentType : DEFAULT_CONTENT_TYPE,
    // What users store is shown by no browser as a page of this origin.
    'x-content-type-options',
    'nosniff',
    'content-security-policy',
    "default-src 'none'; sandbox",
  );
  return { status: 200, headers, body: entry.value };
};

const unknownEntry = (view: string): Problem =>
  toProblem(new TidelineError('unknown-entry', `view ${view} has no entry under that key`), { write: false });
