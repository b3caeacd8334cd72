import type { ChaosCluster, ChaosNode } from './chaos-cluster.js';
import { Countdown } from './countdown.js';
import type { Findings } from './final-checks.js';
import { LEASE_TOPIC, type LeaseLook, type LeaseWrite } from './lease-load.js';

/**
 * What must hold for entries that expire, told from the log alone: a record expires at its log time and its time to live, whatever clocks say. A
 * leader hands out a time of at most LEAD_MS beyond the last committed log time.
 */
const LEAD_MS = 1000;

export interface LoggedLease {
  readonly offset: number;
  readonly logTime: number;
  readonly ttlMs: number;
  readonly key: string;
  readonly value: string;
}

const expiresAt = ({ logTime, ttlMs }: LoggedLease): number => logTime + ttlMs;

/** What was read, by the record it must rest on: the newest of its key at or before the offset that the answer says it reflects. */
export const checkLooks = (
  log: readonly LoggedLease[],
  writes: readonly LeaseWrite[],
  looks: readonly LeaseLook[],
): Findings => {
  const findings: string[] = [];
  const ofKey = new Map<string, LoggedLease[]>();
  for (const lease of log) {
    const list = ofKey.get(lease.key);
    if (list) list.push(lease);
    else ofKey.set(lease.key, [lease]);
  }
  const timeOf = new Map(log.map(({ offset, logTime }) => [offset, logTime]));
  const acknowledged = writes
    .filter(({ offset }) => timeOf.has(offset))
    .toSorted((a, b) => a.returnedAt - b.returnedAt)
    .map(({ offset, returnedAt }) => ({ returnedAt, offset, logTime: timeOf.get(offset)! }));
  // Log time and offset that every read begun later has behind it.
  let known = 0;
  let behindTime = 0;
  let behindOffset = 0;
  /** By record, when a look was over that found it gone. */
  const goneSince = new Map<number, number>();
  for (const look of looks.toSorted((a, b) => a.invokedAt - b.invokedAt)) {
    for (; known < acknowledged.length && acknowledged[known].returnedAt < look.invokedAt; known++) {
      behindTime = Math.max(behindTime, acknowledged[known].logTime);
      behindOffset = Math.max(behindOffset, acknowledged[known].offset);
    }
    const said = `${look.key} was read as ${String(look.value)} at offset ${look.offset}`;
    if (look.offset < behindOffset) findings.push(`${said}, when ${behindOffset} had been acknowledged`);
    const lease = ofKey.get(look.key)?.findLast(({ offset }) => offset <= look.offset);
    if (look.value === null) {
      if (lease === undefined) continue;
      const next = firstFrom(log, look.offset);
      if (next !== undefined && expiresAt(lease) > next.logTime + LEAD_MS)
        findings.push(
          `${said}; record ${lease.offset} lived until ${expiresAt(lease)}, the log was at ${next.logTime} at most`,
        );
      goneSince.set(lease.offset, Math.min(look.returnedAt, goneSince.get(lease.offset) ?? Number.POSITIVE_INFINITY));
      continue;
    }
    if (lease?.value !== look.value) {
      findings.push(`${said}; the record there is ${lease === undefined ? 'none' : lease.value}`);
      continue;
    }
    if (expiresAt(lease) <= behindTime)
      findings.push(`${said}; it expired at ${expiresAt(lease)}, log time ${behindTime} had been acknowledged`);
    if ((goneSince.get(lease.offset) ?? Number.POSITIVE_INFINITY) < look.invokedAt)
      findings.push(`${said}; it had been gone before`);
  }
  return findings;
};

/** The first record at or behind an offset. */
const firstFrom = (log: readonly LoggedLease[], offset: number): LoggedLease | undefined => {
  let low = 0;
  let high = log.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (log[middle].offset < offset) low = middle + 1;
    else high = middle;
  }
  return log[low];
};

export const checkLeaseWrites = (log: readonly LoggedLease[], writes: readonly LeaseWrite[]): Findings => {
  const findings: string[] = [];
  const places = new Map<string, number>();
  for (const { value, offset } of log) {
    if (places.has(value)) findings.push(`${value} is there twice: ${places.get(value)} and ${offset}`);
    places.set(value, offset);
  }
  for (const { value, outcome, offset } of writes) {
    const place = places.get(value);
    if (outcome === 'ok' && place !== offset)
      findings.push(`${value} was acknowledged at ${offset} and is ${place === undefined ? 'missing' : `at ${place}`}`);
    if (outcome === 'rejected' && place !== undefined) findings.push(`${value} was refused and is there at ${place}`);
  }
  return findings;
};

/** Records whose entry expired, rather than being overwritten before. By key and offset. */
export const expiredOf = (log: readonly LoggedLease[]): LoggedLease[] => {
  const latest = new Map<string, LoggedLease>();
  const expired: LoggedLease[] = [];
  for (const lease of log) {
    const before = latest.get(lease.key);
    if (before !== undefined && expiresAt(before) <= lease.logTime) expired.push(before);
    latest.set(lease.key, lease);
  }
  return [...expired, ...latest.values()];
};

interface Archived {
  readonly key: string;
  readonly offset: number;
  readonly value: string;
  readonly expiresAt: string;
}

const ARCHIVED_MS_MAX = 60_000;
const POLL_MS = 250;
const PAGE = 1000;

const archiveOf = async (node: ChaosNode): Promise<Archived[]> => {
  const all: Archived[] = [];
  let cursor = '';
  do {
    const page = await node.getJson<{ entries: Archived[]; cursor: string | null }>(
      `/v1/views/${LEASE_TOPIC}/archive?limit=${PAGE}&cursor=${encodeURIComponent(cursor)}`,
    );
    all.push(...page.entries);
    cursor = page.cursor ?? '';
  } while (cursor !== '');
  return all;
};

/** Every node has its own archive here; each must come to hold exactly what expired, once, as it was. */
export const checkArchives = async (cluster: ChaosCluster, log: readonly LoggedLease[]): Promise<Findings> => {
  const expected = new Map(expiredOf(log).map((lease) => [lease.offset, lease]));
  const findings: string[] = [];
  for (const node of cluster.nodes) {
    const countdown = new Countdown(ARCHIVED_MS_MAX);
    let archive = await archiveOf(node);
    while (archive.length < expected.size && !countdown.isOver) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      archive = await archiveOf(node);
    }
    findings.push(...compareArchive(archive, expected).map((what) => `archive of ${node.name}: ${what}`));
  }
  return findings;
};

export const compareArchive = (archive: readonly Archived[], expected: ReadonlyMap<number, LoggedLease>): Findings => {
  const findings: string[] = [];
  const found = new Set<number>();
  for (const { key, offset, value, expiresAt: expired } of archive) {
    const lease = expected.get(offset);
    if (found.has(offset)) findings.push(`${key} of ${offset} is there twice`);
    found.add(offset);
    if (lease === undefined) findings.push(`${key} of ${offset} is there and did not expire`);
    else if (lease.key !== key || lease.value !== value || expiresAt(lease) !== Date.parse(expired))
      findings.push(`${key} of ${offset} is there as ${value}, expired ${expired}, and was ${lease.value}`);
  }
  for (const { key, offset } of expected.values())
    if (!found.has(offset)) findings.push(`${key} of ${offset} expired and is missing`);
  return findings;
};
