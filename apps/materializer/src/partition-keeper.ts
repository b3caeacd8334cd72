import type { SnapshotEntry } from '#catalog';
import type { CommandLog } from '#command-log';
import {
  SLOTS,
  TidelineError,
  Turns,
  asOffset,
  toTidelineError,
  type Clock,
  type LoopShare,
  type Offset,
  type Scheduler,
} from '#kernel';
import {
  MapView,
  type MapViewOptions,
  type PartitionHealth,
  type PartitionProgress,
  type SnapshotRestored,
} from '#views';
import type { ArchiveGapFiller } from './archive-gap-filler.js';
import type { PeerHosts } from './peer-hosts.js';
import { SlotRepair, type DigestReference } from './slot-repair.js';
import { loadSnapshot, type LoadedSnapshot, type SnapshotBytes } from './snapshot-bytes.js';
import type { SnapshotSource, SnapshotStore } from './snapshot-store.js';

const LOG_END_RETRY_MS = 200;
/** After nothing could be used; something may come, e.g. a host that has a snapshot. */
const RETRY_MS = 2_000;
/** How long a start waits for the other hosts to be reached, so that it knows what they have. */
const PEERS_WAIT_MS = 1_000;
/** For the choice between snapshots: what is read here, what is fetched, and records replayed, in a millisecond. Rough. */
const READ_BYTES_PER_MS = 300_000;
const FETCH_BYTES_PER_MS = 80_000;
const REPLAY_RECORDS_PER_MS = 300;
/** With more of its slots damaged, another snapshot is better. */
const DAMAGED_SLOTS_MAX = SLOTS / 4;

export interface PartitionKeeperOptions {
  readonly log: CommandLog;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Of the turns of the event loop. */
  readonly share: LoopShare;
  readonly source: SnapshotSource;
  readonly topic: string;
  readonly mapOptions: MapViewOptions;
  /** Whether a slot follows from its own records alone. If not, the whole partition is built anew where a slot would be. */
  readonly slotwise: boolean;
  /** Null: every start reads the log from its beginning. */
  readonly store: SnapshotStore | null;
  readonly peers: PeerHosts | null;
  /** Null: what departs is not archived, or nothing is ever skipped. */
  readonly gap: ArchiveGapFiller | null;
  /** From now on the view is fed and read. */
  readonly serve: (view: MapView) => void;
  /** What was served is not to be read any more, nor fed. */
  readonly withdraw: (why: TidelineError) => void;
  /** Some of its slots are not served from now on: who watches it misses changes. */
  readonly interrupted: (why: TidelineError) => void;
  /** Slots, or all of it, were built anew: older snapshots of this host may have what was wrong. */
  readonly rebuilt: () => void;
  /** For the log. */
  readonly report: (error: TidelineError) => void;
}

/** Which snapshot is to be taken; any if nothing is said. */
interface Wanted {
  readonly offset?: Offset;
  readonly notAfter?: Offset;
}

const FROM_LOG = 'the beginning of the log';

/** Slots that are not what they must be. */
export interface Suspicion {
  readonly slots: readonly number[];
  /** What they must be; null: nobody says. */
  readonly reference: DigestReference | null;
  /** When they became wrong is not known: the older the source the better. */
  readonly oldestFirst: boolean;
}

/** Slots of a view, built anew beside it. */
interface Repair {
  readonly slots: readonly number[];
  readonly shadow: MapView;
  readonly reference: DigestReference | null;
}

/** Somewhere a view can be begun from. */
interface Candidate {
  /** For people and for GET /v1/views. */
  readonly name: string;
  readonly offset: Offset;
  /** Until it is where the log is, about. */
  readonly costMs: number;
  readonly own: SnapshotEntry | null;
  /** Where it is. */
  readonly host: string;
  open(): SnapshotBytes;
}

interface Loading {
  readonly phase: 'snapshot' | 'log';
  readonly source: string;
  readonly startedMs: number;
  /** 0 … 1 of the snapshot. */
  part: number;
  readonly offset: Offset;
  target: Offset;
}

/**
 * Sees to it that there is a view of a partition, and that it is right: at the start from the snapshot that gets it there soonest, this host's or
 * another's, and the log after it; later slot by slot, when one was found damaged or different from what other hosts have.
 */
export class PartitionKeeper {
  private view: MapView | null = null;
  private loading: Loading | null = null;
  private problem: string | null = null;
  private repair: SlotRepair | null = null;
  private repairSource = '';
  private readonly suspicions: Suspicion[] = [];
  private repairing = false;
  /** Of slots, and of all of them for an operator: one after the other, since each takes over what is in the view. */
  private readonly rebuilds = new Turns(1);
  /** Rebuilds for operators that have not ended; what is wrong with slots waits for them. */
  private restores = 0;
  private closed = false;
  /** The log was trimmed; a snapshot beyond that is looked for. */
  private searching = false;

  constructor(private readonly options: PartitionKeeperOptions) {}

  /** Resolves when the view is about to be served, or cannot be for now; in that case it is tried again. Never rejects. */
  async open(wanted: Wanted = {}): Promise<void> {
    if (this.closed) return;
    try {
      await this.load(wanted);
    } catch (error) {
      this.tryLater(toTidelineError(error).message, wanted);
    }
  }

  private tryLater(problem: string, wanted: Wanted): void {
    if (this.closed) return;
    this.loading = null;
    if (this.problem !== problem) this.options.report(new TidelineError('not-ready', problem));
    this.problem = problem;
    this.options.scheduler.after(RETRY_MS, () => void this.open(wanted));
  }

  /** Without snapshots: at once, and from the beginning of the log. */
  openEmpty(): void {
    this.start(null, '');
  }

  private async load(wanted: Wanted): Promise<void> {
    const { mapOptions, slotwise, gap } = this.options;
    await gap?.load();
    const all = await this.candidates();
    const fitting = all
      .filter(({ offset }) => wanted.offset === undefined || offset === wanted.offset)
      .filter(({ offset }) => wanted.notAfter === undefined || offset <= wanted.notAfter);
    for (const candidate of fitting) {
      if (!(await this.logHas(candidate.offset + 1))) continue;
      const loading = this.begin('snapshot', candidate.name, candidate.offset);
      const loaded = await this.read(candidate, mapOptions, (part) => (loading.part = part));
      if (this.closed) return;
      const lost = loaded?.damaged.length ?? 0;
      if (loaded === null || lost > (slotwise ? DAMAGED_SLOTS_MAX : 0)) continue;
      // Not waited for: a partition without a leader must not hold up the others.
      void this.startFrom(candidate, loaded.view, wanted);
      return;
    }
    if (!(await this.logHas(1))) throw this.cannotBeBuilt(all);
    this.start(null, '');
  }

  private begin(phase: Loading['phase'], source: string, offset: Offset): Loading {
    const target = this.loading?.target ?? asOffset(0);
    this.loading = { phase, source, startedMs: this.options.clock.monotonicMs(), part: 0, offset, target };
    return this.loading;
  }

  /** Whether a tail may begin at this offset. When it is not heard of, it may. */
  private async logHas(offset: number): Promise<boolean> {
    const { log, topic, source } = this.options;
    const described = log.describe().topics.find(({ name }) => name === topic);
    if (offset >= (described?.partitions[source.partition]?.logStartOffset ?? 0)) return true;
    // By one node's account; another may have kept more.
    const target = { topic, partition: source.partition };
    const refused = await log.fetch(target, asOffset(offset), { maxBytes: 1, maxWaitMs: 0 }).then(
      () => false,
      (error: unknown) => toTidelineError(error).code === 'offset-out-of-range',
    );
    return !refused;
  }

  private cannotBeBuilt(candidates: readonly Candidate[]): TidelineError {
    const { log, topic, source, peers } = this.options;
    const described = log.describe().topics.find(({ name }) => name === topic);
    const begins = described?.partitions[source.partition]?.logStartOffset ?? 1;
    const newest = Math.max(0, ...candidates.map(({ offset }) => offset));
    const best = candidates.length === 0 ? 'there is no snapshot' : `the newest snapshot is at offset ${newest}`;
    const message =
      `${this.name} cannot be built: its log begins at offset ${begins} and ${best}, here or on the ${peers?.count ?? 0} other hosts ` +
      'that are known; a host with a newer snapshot makes it possible';
    return new TidelineError('not-ready', message);
  }

  private get name(): string {
    const { view, partition } = this.options.source;
    return `view ${view}, partition ${partition}`;
  }

  /** The one that gets the view there soonest first. */
  private async candidates(): Promise<Candidate[]> {
    const { store, peers, source } = this.options;
    if (store === null) return [];
    const own = (await store.list(source)).filter(({ verified }) => verified);
    await peers?.tried(PEERS_WAIT_MS);
    const theirs = (await peers?.snapshots(source)) ?? [];
    const newest = Math.max(0, ...own.map(({ offset }) => offset), ...theirs.map(({ info }) => info.offset));
    const replayMs = (offset: Offset): number => (newest - offset) / REPLAY_RECORDS_PER_MS;
    return [
      ...own.map((entry): Candidate => ({
        name: `snapshot at offset ${entry.offset} on this host`,
        offset: entry.offset,
        costMs: entry.bytes / READ_BYTES_PER_MS + replayMs(entry.offset),
        own: entry,
        host: entry.host,
        open: () => store.open(entry),
      })),
      ...theirs.map(({ info, open }): Candidate => ({
        name: `snapshot at offset ${info.offset} on ${info.host}`,
        offset: info.offset,
        costMs: info.bytes / FETCH_BYTES_PER_MS + replayMs(info.offset),
        own: null,
        host: info.host,
        open,
      })),
    ].sort((a, b) => a.costMs - b.costMs);
  }

  /** Null: it is not good; that is reported. With damaged slots it is good for the others. */
  private async read(
    candidate: Candidate,
    options: MapViewOptions,
    progress: (part: number) => void,
  ): Promise<LoadedSnapshot | null> {
    const { store, report } = this.options;
    const refuse = async (reason: string): Promise<void> => {
      if (candidate.own) await store!.reject(candidate.own, reason);
      else report(new TidelineError('storage-damaged', `${candidate.name}: ${reason}`));
    };
    let from: SnapshotBytes | null = null;
    try {
      from = candidate.open();
      const loaded = await loadSnapshot(from, { options, progress, cancelled: () => this.closed });
      for (const { slot, reason } of loaded.damaged) await refuse(`slot ${slot} is not good: ${reason}`);
      if (loaded.view.offset !== candidate.offset)
        throw new TidelineError('storage-damaged', 'it is of another offset');
      return loaded;
    } catch (error) {
      if (!this.closed) await refuse(`it is skipped: ${toTidelineError(error).message}`);
      return null;
    } finally {
      from?.close();
    }
  }

  /**
   * Whether the log reaches as far as the snapshot. It may not, when the log was lost with the power (durability below `sync`) or replaced:
   * then what follows would be taken for what the view has already. Only the leader knows, so it is asked until it answers.
   */
  private async confirm(restored: MapView, candidate: Candidate): Promise<boolean> {
    const { log, topic, source, report } = this.options;
    while (!this.closed) {
      try {
        const { offset } = await log.barrier({ topic, partition: source.partition });
        if (this.loading) this.loading.target = offset;
        if (restored.offset <= offset) return true;
        report(
          new TidelineError('storage-damaged', `the ${candidate.name} is ahead of the log, which ends at ${offset}`),
        );
        return false;
      } catch {
        await this.pause(LOG_END_RETRY_MS);
      }
    }
    return false;
  }

  private async startFrom(candidate: Candidate, restored: MapView, wanted: Wanted): Promise<void> {
    try {
      const within = await this.confirm(restored, candidate);
      if (within) await this.skipTo(candidate, restored);
      this.start(within ? restored : null, candidate.name);
    } catch (error) {
      this.tryLater(toTidelineError(error).message, wanted);
    }
  }

  /** Before a snapshot is taken into service: with another host's, what had departed before is in that host's archive, and may not be in this one's. */
  private async skipTo({ own, host }: Candidate, { offset, logTime }: MapView): Promise<void> {
    const { gap, store, source } = this.options;
    if (own !== null || gap === null) return;
    const archivedUntil = await store!.archivedUntil(source);
    await gap.skip({ archivedUntil, offset, logTime, host });
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.options.scheduler.after(ms, resolve);
    });
  }

  /** Null: from the beginning of the log. */
  private start(restored: MapView | null, source: string): void {
    if (this.closed) return;
    const view = restored ?? new MapView(this.options.mapOptions);
    this.view = view;
    this.problem = null;
    const { target } = this.begin('log', restored === null ? FROM_LOG : source, view.offset);
    // Nothing may ever come after it.
    if (target > 0 && view.offset >= target) this.loading = null;
    const { stoppedSlots: slots } = view;
    this.options.serve(view);
    if (slots.length > 0) this.mend({ slots, reference: null, oldestFirst: false });
  }

  /** The view that is served has applied more, or heard how far the log goes. */
  applied(commitOffset: Offset): void {
    const { loading, view } = this;
    this.repair?.wake();
    if (this.problem !== null && this.suspicions.length === 0) this.problem = null;
    if (loading === null || view === null) return;
    if (loading.target === 0) loading.target = commitOffset;
    if (view.offset >= loading.target) this.loading = null;
  }

  /** The log no longer has what the view needs next: another host's snapshot may be beyond that. Until one is found the view stays as it is. */
  trimmed(): void {
    const { view } = this;
    if (this.searching || view === null || this.closed) return;
    this.searching = true;
    void this.beyond(view.offset)
      .then((found) => {
        if (this.closed || this.view !== view) return undefined;
        if (found === null) return this.reopen('the log was trimmed beyond what the view has applied');
        if (this.problem !== found.message) this.options.report(found);
        this.problem = found.message;
        return this.pause(RETRY_MS);
      })
      .finally(() => {
        this.searching = false;
      });
  }

  /** Null: there is a snapshot beyond this offset from which the log goes on. */
  private async beyond(offset: Offset): Promise<TidelineError | null> {
    const candidates = await this.candidates();
    for (const candidate of candidates) {
      if (candidate.offset > offset && (await this.logHas(candidate.offset + 1))) return null;
    }
    return this.cannotBeBuilt(candidates);
  }

  private reopen(reason: string, wanted: Wanted = {}): void {
    if (this.closed || this.view === null) return;
    this.view = null;
    this.suspicions.length = 0;
    this.repair?.giveUp();
    this.options.withdraw(new TidelineError('not-ready', `${this.name}: ${reason}`));
    void this.open(wanted);
  }

  /* ---- slots that are wrong ---- */

  /** They are served no more until they were built anew. */
  suspect(suspicion: Suspicion): void {
    const { view } = this;
    if (this.closed || view === null) return;
    if (!this.options.slotwise) {
      const before = suspicion.reference?.offset;
      this.reopen(
        `slot ${suspicion.slots[0]} is not what it must be`,
        before === undefined ? {} : { notAfter: before },
      );
      return;
    }
    const slots = suspicion.slots.filter((slot) => !view.stoppedSlots.includes(slot));
    if (slots.length === 0) return;
    view.stopSlots(slots);
    this.options.interrupted(new TidelineError('not-ready', `slots of ${this.name} are being rebuilt; watch it anew`));
    this.mend({ ...suspicion, slots });
  }

  private mend(suspicion: Suspicion): void {
    this.suspicions.push(suspicion);
    if (this.repairing) return;
    this.repairing = true;
    void this.mendAll().finally(() => {
      this.repairing = false;
    });
  }

  private async mendAll(): Promise<void> {
    for (let suspicion = this.suspicions[0]; suspicion !== undefined; suspicion = this.suspicions[0]) {
      const { view } = this;
      if (this.closed || view === null) return;
      const { slots } = suspicion;
      const wrong = (): number[] => slots.filter((slot) => view.stoppedSlots.includes(slot));
      const error = await this.rebuilds.take(() => this.mendFrom(view, { ...suspicion, slots: wrong() }));
      if (this.closed || this.view !== view) return;
      if (error === null) {
        this.problem = null;
        this.suspicions.shift();
        this.options.rebuilt();
        continue;
      }
      // After the operator's, which may have them right.
      if (this.restores > 0) continue;
      this.problem = `slots ${slots.join(', ')} cannot be rebuilt: ${error.message}`;
      await this.pause(RETRY_MS);
    }
  }

  /** Null: the view has the slots. */
  private async mendFrom(view: MapView, suspicion: Suspicion): Promise<TidelineError | null> {
    const { mapOptions, report } = this.options;
    const { slots, reference } = suspicion;
    if (slots.length === 0) return null;
    const options = { ...mapOptions, slots: new Set(slots) };
    let last = new TidelineError('not-ready', 'no snapshot fits, and the log does not begin at its beginning any more');
    for (const candidate of await this.sourcesFor(view, suspicion)) {
      if (this.closed || this.view !== view || this.restores > 0) break;
      let shadow: MapView;
      if (candidate === null) {
        shadow = new MapView(options);
      } else {
        const loaded = await this.read(candidate, options, () => undefined);
        if (loaded === null || loaded.damaged.length > 0) continue;
        shadow = loaded.view;
      }
      this.repairSource = candidate?.name ?? FROM_LOG;
      const error = await this.feedFrom(candidate, view, { slots, shadow, reference });
      if (error === null || this.closed || this.view !== view || this.restores > 0) return error;
      last = error;
      if (candidate?.own && error.code === 'storage-damaged') {
        await this.options.store!.reject(candidate.own, error.message);
      } else {
        report(new TidelineError(error.code, `${this.name}: ${this.repairSource}: ${error.message}`));
      }
    }
    return last;
  }

  /** Null: the view has the slots. */
  private async feedFrom(candidate: Candidate | null, view: MapView, parts: Repair): Promise<TidelineError | null> {
    try {
      if (candidate !== null) await this.skipTo(candidate, parts.shadow);
    } catch (error) {
      return toTidelineError(error);
    }
    if (this.closed || this.view !== view) return new TidelineError('not-ready', 'another view has taken its place');
    return this.feed(view, parts);
  }

  private feed(view: MapView, parts: Repair): Promise<TidelineError | null> {
    const { log, share, topic, source } = this.options;
    return new Promise((resolve) => {
      this.repair = new SlotRepair({
        log,
        share,
        target: { topic, partition: source.partition },
        view,
        ...parts,
        done: (error) => {
          this.repair = null;
          resolve(error);
        },
      });
    });
  }

  /** Null stands for the beginning of the log. The best first. */
  private async sourcesFor(view: MapView, { reference, oldestFirst }: Suspicion): Promise<(Candidate | null)[]> {
    const usable: Candidate[] = [];
    for (const candidate of await this.candidates()) {
      if (candidate.offset <= view.offset && (await this.logHas(candidate.offset + 1))) usable.push(candidate);
    }
    const early = usable.filter(({ offset }) => reference === null || offset <= reference.offset);
    // What was taken later may have what is wrong now; another host's may not.
    const late = usable.filter(({ offset, own }) => reference !== null && offset > reference.offset && own === null);
    const fromLog = (await this.logHas(1)) ? [null] : [];
    if (oldestFirst) return [...fromLog, ...early.sort((a, b) => a.offset - b.offset), ...late];
    return [...early, ...fromLog, ...late];
  }

  /* ---- for operators ---- */

  /** From a snapshot that is named by its offset, or the best; the view serves until the new one is as far. Rejects `not-found` | `not-ready`. */
  async restore(offset: Offset | null): Promise<SnapshotRestored> {
    const { view } = this;
    const { source, mapOptions, slotwise } = this.options;
    if (view === null) throw new TidelineError('not-ready', `${this.name} is being restored`);
    const candidates = (await this.candidates()).filter((candidate) => offset === null || candidate.offset === offset);
    for (const candidate of candidates) {
      if (!(await this.logHas(candidate.offset + 1))) continue;
      const restored = { partition: source.partition, source: candidate.name, offset: candidate.offset };
      if (!slotwise) {
        this.reopen('it is being restored', { offset: candidate.offset });
        return restored;
      }
      if (candidate.offset > view.offset) continue;
      const loaded = await this.read(candidate, mapOptions, () => undefined);
      if (loaded === null || loaded.damaged.length > 0) continue;
      void this.restoreFrom(candidate, view, loaded.view);
      return restored;
    }
    const which = offset === null ? 'no good snapshot' : `no good snapshot at offset ${offset}`;
    throw new TidelineError('not-found', `there is ${which} of ${this.name} that its log goes on from`);
  }

  private async restoreFrom(candidate: Candidate, view: MapView, shadow: MapView): Promise<void> {
    const slots = Array.from({ length: SLOTS }, (_, slot) => slot);
    this.restores++;
    this.repair?.giveUp();
    const error = await this.rebuilds.take(() => {
      this.repairSource = candidate.name;
      return this.feedFrom(candidate, view, { slots, shadow, reference: null }).finally(() => this.restores--);
    });
    if (error === null) this.options.rebuilt();
    else if (!this.closed) this.options.report(error);
  }

  get source(): SnapshotSource {
    return this.options.source;
  }

  get gap(): ArchiveGapFiller | null {
    return this.options.gap;
  }

  /** Null: it is simply served. */
  get health(): PartitionHealth | null {
    const stoppedSlots = this.view?.stoppedSlots ?? [];
    const restoring = this.progress();
    if (restoring === null && stoppedSlots.length === 0 && this.problem === null) return null;
    const { view, partition } = this.options.source;
    return { view, partition, restoring, stoppedSlots, problem: this.problem };
  }

  private progress(): PartitionProgress | null {
    const { view, loading, repair } = this;
    if (repair !== null && view !== null) {
      const percent = Math.floor((repair.offset / Math.max(1, view.offset)) * 100);
      return {
        phase: 'log',
        source: this.repairSource,
        percent,
        offset: repair.offset,
        target: view.offset,
        etaSeconds: null,
      };
    }
    if (loading === null) return null;
    const offset = view?.offset ?? loading.offset;
    const { phase, source, target } = loading;
    const part = phase === 'snapshot' ? loading.part : (offset - loading.offset) / Math.max(1, target - loading.offset);
    const elapsed = (this.options.clock.monotonicMs() - loading.startedMs) / 1000;
    const etaSeconds = part > 0 ? Math.ceil((elapsed / part) * (1 - part)) : null;
    return { phase, source, percent: Math.min(100, Math.floor(part * 100)), offset, target, etaSeconds };
  }

  close(): void {
    this.closed = true;
    this.options.gap?.close();
    this.repair?.giveUp();
  }
}
