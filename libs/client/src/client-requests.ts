import type { TidelineError } from '#kernel';
import type { ProjectionMessage, ViewStatsMessage } from '#wire';
import type { ProducerAcks } from './append-port.js';
import type { KeyInput, ValueInput, ViewEntry } from './values.js';

export interface ViewDescription {
  readonly view: string;
  /** What it is built from. */
  readonly topic: string;
  readonly kind: 'map' | 'projection';
  /** Null when the host that was asked does not serve it. */
  readonly stats: ViewStatsMessage | null;
  readonly projection: ProjectionMessage | null;
}

/** A record to append. */
export interface RecordToAppend {
  readonly key?: KeyInput | null;
  /** null or absent: a tombstone. */
  readonly value?: ValueInput | null;
  readonly headers?: Readonly<Record<string, string | Uint8Array>>;
  /** Lifetime in a view, ms from the log time of the record. */
  readonly ttlMs?: number;
  /** Event type, for projections and filters. */
  readonly type?: string;
  /** ms since the epoch; default: now. */
  readonly timestamp?: number;
  /** A command of a data type instead of a put; what it gives is not told: see `command`. */
  readonly op?: { readonly name: string; readonly args: readonly Uint8Array[] };
}

export interface AppendOptions {
  /** Default `quorum`: durable on a majority. */
  readonly acks?: ProducerAcks;
  /** Default: by the hash of each record's key; records without one take turns over the partitions, call by call. */
  readonly partition?: number;
  /** A call that is repeated with the same key takes effect once and gets the same answer. Its records must go to one partition. */
  readonly idempotencyKey?: string;
}

/** Records of one call in one partition: offsets firstOffset … lastOffset, in the order given. */
export interface AppendedRange {
  readonly partition: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
}

export interface Written {
  readonly partition: number;
  readonly offset: number;
}

export interface SetOptions {
  /** Lifetime, ms from the moment the log takes it. Default: for ever. */
  readonly ttlMs?: number;
  /** Only if the entry was last written at this offset. */
  readonly ifOffset?: number;
  /** Only if there is no entry. */
  readonly ifAbsent?: boolean;
  /** Only if there is an entry. */
  readonly ifPresent?: boolean;
  readonly contentType?: string;
  /** Default `quorum`, with a condition always `applied`. */
  readonly acks?: ProducerAcks;
}

export type DeleteOptions = Pick<SetOptions, 'ifOffset' | 'ifPresent' | 'acks'>;

/**
 * linearizable: sees every write acknowledged before the read began · session: sees this client's own writes · bounded: at most maxLagMs
 * behind · stale: whatever the nearest host has.
 */
export type Consistency = 'linearizable' | 'session' | 'bounded' | 'stale';

export interface ReadOptions {
  /** Default `linearizable`. */
  readonly consistency?: Consistency;
  /** For `bounded`, ms. Default 1,000. */
  readonly maxLagMs?: number;
  /** For `session`: an offset that must be seen, beside this client's own writes. */
  readonly minOffset?: number;
  readonly timeoutMs?: number;
}

export interface ScanOptions extends ReadOptions {
  readonly prefix?: KeyInput;
  /** Exclusive lower bound: the last key of the page before. */
  readonly after?: KeyInput;
  /** Entries of one page, 1 … 10,000. Default 100. */
  readonly limit?: number;
  /** Bytes of one page. Default 1 MiB. */
  readonly bytesMax?: number;
  /** false: keys only, values are empty. Default true. */
  readonly values?: boolean;
  /** Default: all, merged by key. */
  readonly partition?: number;
}

export interface ArchiveOptions {
  /** Default: all keys. */
  readonly key?: KeyInput;
  /** Expired at this time or later, ms since the epoch. */
  readonly from?: number;
  /** Expired before this time. */
  readonly to?: number;
  /** Entries in all. Default: all. */
  readonly limit?: number;
  readonly timeoutMs?: number;
}

export interface ScanPage {
  /** Ascending by key bytes. */
  readonly entries: readonly ViewEntry[];
  /** There may be more after the last entry. */
  readonly more: boolean;
}

export interface CommandResult extends Written {
  readonly result: unknown;
}

export type SentCallback = (error: TidelineError | null, written: Written | null) => void;
