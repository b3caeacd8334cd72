import { SLOTS, type Clock, type Offset, type Scheduler } from '#kernel';
import { digestOfAll, type SlotDigests } from '#views';
import { snapshotServiceV1, type ViewPart } from '#wire';
import { isOpen, type HostedPartition, type HostedView } from './hosted-partition.js';
import type { PartitionKeeper, Suspicion } from './partition-keeper.js';
import type { PeerHosts } from './peer-hosts.js';

/** One slot of one partition is looked through so often, in turn. */
const SCRUB_MS = 100;
/** Less often when that takes long: the host then spends one part in so many of its time on it. With ten million entries in a partition it was a quarter. */
const SCRUB_SHARE = 50;

export interface DigestMismatch {
  readonly view: string;
  readonly partition: number;
  readonly slots: readonly number[];
  readonly offset: Offset;
  /** Hosts that were compared, this one included. */
  readonly hosts: number;
  /** minority: most hosts have another digest · undecided: no digest is most hosts' · majority: this host is right · memory: no other host was asked. */
  readonly verdict: 'minority' | 'undecided' | 'majority' | 'memory';
}

export interface DigestWatchOptions {
  readonly peers: PeerHosts | null;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly intervalMs: number;
  readonly views: () => Iterable<HostedView>;
  readonly found: (mismatch: DigestMismatch) => void;
}

interface Watched {
  readonly hosted: HostedPartition;
  readonly keeper: PartitionKeeper;
}

/**
 * Whether this host's views are what those of the other hosts are, and what they were when they were applied. At an interval it asks the others for
 * the digests they have kept at marked offsets (digest-marks.ts), and where they are now, and compares those at equal offsets; between them it
 * adds up, slot by slot, what is in memory. A slot that is not what most hosts have is stopped and rebuilt; if no digest is that of most
 * hosts, each stops it and rebuilds it, from as far back as there is anything.
 */
export class DigestWatch {
  private cancelCompare: (() => void) | null = null;
  private cancelScrub: (() => void) | null = null;
  private scrubbed = 0;
  private closed = false;
  /** Slots in which another host is known to be wrong: told once. */
  private readonly differing = new Map<string, string>();

  constructor(private readonly options: DigestWatchOptions) {
    this.scheduleCompare();
    this.scheduleScrub();
  }

  private scheduleCompare(): void {
    if (this.closed || this.options.peers === null) return;
    this.cancelCompare = this.options.scheduler.after(this.options.intervalMs, () => {
      void this.compare().finally(() => this.scheduleCompare());
    });
  }

  private scheduleScrub(delayMs = SCRUB_MS): void {
    if (this.closed) return;
    this.cancelScrub = this.options.scheduler.after(delayMs, () => {
      const { clock } = this.options;
      const began = clock.monotonicMs();
      this.scrub();
      this.scheduleScrub(Math.max(SCRUB_MS, (clock.monotonicMs() - began) * SCRUB_SHARE));
    });
  }

  private *watched(): Generator<Watched, void, undefined> {
    for (const { partitions, keepers } of this.options.views()) {
      for (const hosted of partitions.filter(isOpen)) yield { hosted, keeper: keepers[hosted.partition] };
    }
  }

  /** Adds up the next slot. */
  private scrub(): void {
    const all = [...this.watched()];
    if (all.length === 0) return;
    // All partitions' first slot, then all their second: a busy partition is not looked at more often than the others.
    const { hosted, keeper } = all[this.scrubbed % all.length];
    const slot = Math.floor(this.scrubbed / all.length) % SLOTS;
    this.scrubbed++;
    const { view } = hosted;
    if (view.stoppedSlots.includes(slot) || view.addsUp(slot)) return;
    this.tell(hosted, { slots: [slot], offset: view.offset, hosts: 1, verdict: 'memory' });
    keeper.suspect({ slots: [slot], reference: null, oldestFirst: false });
  }

  private async compare(): Promise<void> {
    const { marks } = snapshotServiceV1;
    const answers = await this.options.peers!.askAll(marks, undefined);
    for (const { hosted, keeper } of this.watched()) {
      const theirs = answers.flatMap(({ address, answer }) => {
        const part = answer.parts.find((candidate) => isSamePart(candidate, hosted.source));
        return part === undefined ? [] : [{ address, marks: part.marks }];
      });
      if (theirs.length === 0 || hosted.view.stoppedSlots.length > 0) continue;
      const own = new Map(marksOf(hosted).map(({ offset, digest }) => [offset, digest]));
      const differs = ({ offset, digest }: { offset: Offset; digest: string }): boolean =>
        own.has(offset) && own.get(offset) !== digest;
      const offset = Math.max(0, ...theirs.flatMap((peer) => peer.marks.filter(differs).map((mark) => mark.offset)));
      const key = JSON.stringify([hosted.source.view, hosted.partition]);
      if (offset === 0) this.differing.delete(key);
      else await this.settle({ hosted, keeper }, offset as Offset, key);
    }
  }

  /** Somebody is wrong at this offset: who, and in which slots. */
  private async settle({ hosted, keeper }: Watched, offset: Offset, key: string): Promise<void> {
    const own = digestsAt(hosted, offset);
    if (own === null) return;
    const answers = await this.options.peers!.askAll(snapshotServiceV1.digests, { ...hosted.source, offset });
    if (this.closed || hosted.view.stoppedSlots.length > 0) return;
    const others = answers.flatMap(({ answer }) => (answer === null ? [] : [answer]));
    const hosts = others.length + 1;
    const minority: number[] = [];
    const undecided: number[] = [];
    const majority: number[] = [];
    const right = new Map<number, SlotDigests>();
    for (let slot = 0; slot < SLOTS; slot++) {
      const agree = (digests: SlotDigests): number =>
        [own, ...others].filter((candidate) => isEqualAt(slot, candidate, digests)).length;
      const votes = agree(own);
      if (votes === hosts) continue;
      const winner = [own, ...others].find((candidate) => agree(candidate) * 2 > hosts);
      if (winner === undefined) undecided.push(slot);
      else if (isEqualAt(slot, winner, own)) majority.push(slot);
      else {
        minority.push(slot);
        right.set(slot, winner);
      }
    }
    const suspect = (
      slots: number[],
      verdict: DigestMismatch['verdict'],
      suspicion: Omit<Suspicion, 'slots'>,
    ): void => {
      if (slots.length === 0) return;
      this.tell(hosted, { slots, offset, hosts, verdict });
      keeper.suspect({ slots, ...suspicion });
    };
    suspect(minority, 'minority', {
      reference: { offset, accepts: (slot, digests) => isEqualAt(slot, right.get(slot)!, digests) },
      oldestFirst: false,
    });
    // Nobody says what is right, only that something went wrong before. The others may look too late: this host has stopped its slots by then.
    if (undecided.length > 0) {
      void this.options.peers!.askAll(snapshotServiceV1.dispute, { ...hosted.source, offset, digests: own });
    }
    suspect(undecided, 'undecided', { reference: { offset, accepts: () => true }, oldestFirst: true });
    const known = JSON.stringify(majority);
    if (majority.length > 0 && this.differing.get(key) !== known) {
      this.tell(hosted, { slots: majority, offset, hosts, verdict: 'majority' });
    }
    this.differing.set(key, known);
  }

  /** Another host has found that it differs from this one and that no digest is that of most hosts. */
  disputed(part: ViewPart, offset: Offset, theirs: SlotDigests): void {
    for (const { hosted, keeper } of this.watched()) {
      if (!isSamePart(hosted.source, part)) continue;
      const own = digestsAt(hosted, offset);
      if (own === null) return;
      const slots = Array.from({ length: SLOTS }, (_, slot) => slot).filter((slot) => !isEqualAt(slot, own, theirs));
      if (slots.length === 0) return;
      this.tell(hosted, { slots, offset, hosts: 2, verdict: 'undecided' });
      keeper.suspect({ slots, reference: { offset, accepts: () => true }, oldestFirst: true });
      return;
    }
  }

  private tell({ source }: HostedPartition, mismatch: Omit<DigestMismatch, 'view' | 'partition'>): void {
    this.options.found({ view: source.view, partition: source.partition, ...mismatch });
  }

  close(): void {
    this.closed = true;
    this.cancelCompare?.();
    this.cancelScrub?.();
  }
}

export const isSamePart = (a: ViewPart, b: ViewPart): boolean =>
  a.view === b.view && a.partition === b.partition && a.group === b.group && a.clusterId === b.clusterId;

/** What is kept, and where the view is; nothing of a view that lacks slots. */
export const marksOf = ({ view }: HostedPartition): { offset: Offset; digest: string }[] => {
  if (view.stoppedSlots.length > 0 || view.offset === 0) return [];
  const marks = view.marks.list().map(({ offset, digests }) => ({ offset, digest: digestOfAll(digests) }));
  return [...marks, { offset: view.offset, digest: view.digest }];
};

export const digestsAt = ({ view }: HostedPartition, offset: Offset): SlotDigests | null => {
  if (view.stoppedSlots.length > 0) return null;
  return view.offset === offset ? view.slotDigests() : (view.marks.at(offset)?.digests ?? null);
};

const isEqualAt = (slot: number, a: SlotDigests, b: SlotDigests): boolean =>
  a[2 * slot] === b[2 * slot] && a[2 * slot + 1] === b[2 * slot + 1];
