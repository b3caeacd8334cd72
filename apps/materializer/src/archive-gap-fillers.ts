import type { Archive, ArchiveGaps } from '#catalog';
import { Turns, type Clock, type Scheduler } from '#kernel';
import { ArchiveGapFiller, type ArchiveGapStatus } from './archive-gap-filler.js';
import type { PeerHosts } from './peer-hosts.js';
import type { SnapshotSource } from './snapshot-store.js';

export interface ArchiveGapFillersOptions {
  readonly gaps: ArchiveGaps;
  readonly archive: Archive;
  readonly peers: PeerHosts | null;
  /** This host, as it is known to the catalog. */
  readonly host: string;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
}

/** Those of a host: they take turns, so that what is copied at a time is one page, however many partitions have gaps. */
export class ArchiveGapFillers {
  private readonly pages = new Turns(1);
  private opened: (status: ArchiveGapStatus) => void = () => undefined;
  private copied: (view: string, partition: number, count: number) => void = () => undefined;
  private filled: (status: ArchiveGapStatus) => void = () => undefined;

  constructor(private readonly options: ArchiveGapFillersOptions) {}

  of(source: SnapshotSource): ArchiveGapFiller {
    return new ArchiveGapFiller({
      ...this.options,
      source,
      pages: this.pages,
      opened: (status) => this.opened(status),
      copied: (count) => this.copied(source.view, source.partition, count),
      filled: (status) => this.filled(status),
    });
  }

  /** A stretch of log was skipped, or was once and still is not made up for: the archive lacks what departed in it. */
  onOpened(listener: (status: ArchiveGapStatus) => void): void {
    this.opened = listener;
  }

  /** So many entries came from another host. */
  onCopied(listener: (view: string, partition: number, count: number) => void): void {
    this.copied = listener;
  }

  /** The archive lacks nothing any more. */
  onFilled(listener: (status: ArchiveGapStatus) => void): void {
    this.filled = listener;
  }
}
