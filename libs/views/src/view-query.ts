import type { LogTime, Offset } from '#kernel';
import type { Observable } from 'rxjs';
import type { ParkedEvent } from './projection/parked-event.js';
import type { ViewUpkeep } from './view-upkeep.js';

/**
 * How the gateway asks a materializer; implemented in process by the materializer and over TCP (methods in libs/wire view-service-v1.ts).
 * Rejects with TidelineErrors: `unknown-view`, `timeout` (did not reach the offset in time), `not-ready`.
 */

/** Wait until the view has applied `offset`, then read as of `time` (the view's own last log time if null). */
export interface ReadPoint {
  readonly offset: Offset;
  readonly time: LogTime | null;
}

export interface Entry {
  readonly key: Buffer;
  readonly value: Buffer;
  /** As the writer gave it; null when it gave none. */
  readonly contentType: string | null;
  /** Offset of the record that last wrote it. */
  readonly offset: Offset;
  /** Log time of that record, or of the command that last touched it. */
  readonly logTime: LogTime;
  /** Log time at which it is gone, by its TTL or because it was not used for too long; null: never. */
  readonly expiresAt: LogTime | null;
}

/** What a view said about a record with an op. */
export interface ApplyResult {
  /** False: the command had no effect, see code. */
  readonly ok: boolean;
  /** 'condition-failed' | 'wrong-type' | … from the error table; empty when ok. */
  readonly code: string;
  readonly message: string;
  /** JSON text of the command's result; empty for none. */
  readonly value: string;
  /** Offset of the entry after the command; 0 when there is none. */
  readonly entryOffset: Offset;
}

export interface Position {
  /** Applied up to here. */
  readonly offset: Offset;
  readonly logTime: LogTime;
}

export interface ViewPartitionStats extends Position {
  readonly partition: number;
  readonly commitOffset: Offset;
  /** Rolling digest of the state, hex: equal at equal offsets on all hosts. */
  readonly digest: string;
  readonly entries: number;
  readonly bytes: number;
}

export interface ViewStats {
  readonly view: string;
  readonly topic: string;
  readonly kind: 'map' | 'projection';
  readonly slots: number;
  readonly partitions: readonly ViewPartitionStats[];
  readonly entries: number;
  readonly bytes: number;
}

export interface ScanPage {
  /** Ascending by key bytes. Values empty when not asked for. */
  readonly entries: readonly Entry[];
  /** True when there may be more after the last entry. */
  readonly more: boolean;
}

export type WatchEvent =
  | { readonly type: 'put'; readonly partition: number; readonly entry: Entry }
  | { readonly type: 'delete' | 'expire'; readonly partition: number; readonly key: Buffer; readonly offset: Offset }
  /** Current entries have been sent; from here on changes. */
  | { readonly type: 'live'; readonly partition: number; readonly offset: Offset };

/** A piece of a watch. The source sends no more than a few until they are released. */
export interface WatchChunk {
  readonly events: readonly WatchEvent[];
  /** Call once when done with it: another may follow. */
  release(): void;
}

/** An entry that expired or was evicted. */
export interface DepartedEntry extends Entry {
  readonly partition: number;
  /**
   * Milliseconds since the Unix epoch, by the clock of the host that was first to write it to the archive; null: it is in memory still, and on its
   * way there.
   */
  readonly archivedAt: number | null;
  /** It had to make room while it was alive; `expiresAt` is when. */
  readonly evicted: boolean;
}

/** The same as the archive keeps it. */
export interface ArchivedEntry extends DepartedEntry {
  readonly archivedAt: number;
}

export interface ArchiveRequest {
  readonly view: string;
  /** All keys if null. */
  readonly key: Buffer | null;
  /** Expired at this time or later. */
  readonly from: LogTime | null;
  /** Expired before this time. */
  readonly to: LogTime | null;
  /** 1 … 1000. */
  readonly limit: number;
  /** From an earlier page of the same request. */
  readonly cursor: string | null;
}

export interface ArchivePage {
  /** In the order in which they expired. */
  readonly entries: readonly ArchivedEntry[];
  /** Where the next page begins; null on the last. */
  readonly cursor: string | null;
}

/** A projection as its host knows it. */
export interface ProjectionDescription {
  readonly view: string;
  readonly topic: string;
  /** Of the states that are served; the newest there is code for while none are. */
  readonly version: number;
  readonly state: 'live' | 'building' | 'halted' | 'refused';
  readonly indexes: readonly string[];
  readonly archive: boolean;
  /** A version that is not served yet, or is while it is being built because there is no other. */
  readonly building: ProjectionBuilding | null;
  /** Where it stopped; empty when it did not. */
  readonly halted: readonly { readonly partition: number; readonly offset: Offset; readonly reason: string }[];
  /** Events set aside, all partitions together. */
  readonly parked: number;
  /** Why it is not hosted; empty when it is. */
  readonly refusal: string;
}

export interface ProjectionBuilding {
  readonly version: number;
  /** Applied, and to be applied; all partitions together. */
  readonly offset: number;
  readonly target: number;
  /** 0 … 100. */
  readonly percent: number;
  /** Null before it can be told. */
  readonly etaSeconds: number | null;
}

export interface ViewQuery {
  /** For operators; absent where it is not offered. */
  readonly upkeep?: ViewUpkeep;
  get(request: {
    readonly view: string;
    readonly partition: number;
    readonly key: Buffer;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<{ readonly entry: Entry | null; readonly position: Position }>;
  /**
   * As `get`; where nothing is live, what was written last under the key of all that has expired or was evicted: in memory while it waits for the
   * archive, in the archive after that. Null for a view without one.
   */
  getOrDeparted(request: {
    readonly view: string;
    readonly partition: number;
    readonly key: Buffer;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<{
    readonly entry: Entry | null;
    readonly departed: DepartedEntry | null;
    readonly position: Position;
  }>;
  /** As `get`, of several keys of the partition. */
  getMany(request: {
    readonly view: string;
    readonly partition: number;
    readonly keys: readonly Buffer[];
    /** When the answer has so many, what is left of the keys is not answered. */
    readonly bytesMax: number;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<{
    /** `found` of each, in their order, as #wire writes it (entry-v1.ts): whoever asked a gateway for them gets these bytes. */
    readonly found: Buffer;
    readonly position: Position;
  }>;
  /** As `get`, where the view is in this process and has applied the offset already; null: ask `get`, which waits, or says what is wrong. */
  getNow?(request: {
    readonly view: string;
    readonly partition: number;
    readonly key: Buffer;
    readonly at: ReadPoint;
  }): { readonly entry: Entry | null; readonly position: Position } | null;
  /** One partition; the gateway merges partitions. `after`: exclusive lower bound, null for none. */
  scan(request: {
    readonly view: string;
    readonly partition: number;
    readonly prefix: Buffer;
    readonly after: Buffer | null;
    readonly limit: number;
    readonly bytesMax: number;
    readonly values: boolean;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<ScanPage & { readonly position: Position }>;
  /** Results of the records firstOffset … lastOffset of a batch, once applied; in order. A record without op gives ok. Rejects `result-evicted`. */
  results(request: {
    readonly view: string;
    readonly partition: number;
    readonly firstOffset: Offset;
    readonly lastOffset: Offset;
    readonly timeoutMs: number;
  }): Promise<{ readonly results: readonly ApplyResult[]; readonly position: Position }>;
  /**
   * Per partition: entries, live, changes, at the pace at which chunks are released. Ends with `too-slow` when more changes wait than the host
   * keeps for a reader, and with an error that is `retriable` when it is to be begun anew.
   */
  watch(request: {
    readonly view: string;
    readonly partition: number;
    readonly prefix: Buffer;
  }): Observable<WatchChunk>;
  stats(): Promise<readonly ViewStats[]>;
  projections(): Promise<readonly ProjectionDescription[]>;
  /** States of one partition of a projection that a declared index has under a value, ascending by key; otherwise as `scan`. */
  lookup(request: {
    readonly view: string;
    readonly partition: number;
    readonly index: string;
    readonly value: string;
    readonly after: Buffer | null;
    readonly limit: number;
    readonly bytesMax: number;
    readonly values: boolean;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<ScanPage & { readonly position: Position }>;
  /** Events that a projection could not apply, of one partition, oldest first. */
  parked(request: {
    readonly view: string;
    readonly partition: number;
    /** Exclusive lower bound. */
    readonly after: Offset;
    readonly limit: number;
    readonly at: ReadPoint;
    readonly timeoutMs: number;
  }): Promise<{ readonly events: readonly ParkedEvent[]; readonly more: boolean; readonly position: Position }>;
  /** What has expired and is in the archive, all partitions together; not what is on its way there. Empty for a view without one. */
  archive(request: ArchiveRequest): Promise<ArchivePage>;
}
