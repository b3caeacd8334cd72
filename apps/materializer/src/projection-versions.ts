import { TidelineError, type Clock, type Offset, type Scheduler } from '#kernel';
import type { ClusterDescription, CommandLog, TopicDescription } from '#command-log';
import type { MapView, ProjectionBuilding, ProjectionDefinition, ProjectionDescription } from '#views';
import { isOpen, type HostedPartition, type HostedView } from './hosted-partition.js';

/** A version that lacks no more than this many records takes over; a linearizable read waits for the rest as it does anyway. */
export const SWAP_LAG_RECORDS_MAX = 1000;
const PROGRESS_MS = 100;
/** A version without code is looked for this far below the oldest that has. */
const KEPT_VERSIONS_BACK = 8;

/** How versions are opened and closed: the view host. */
export interface VersionHost {
  open(definition: ProjectionDefinition, topic: TopicDescription, clusterId: string): HostedView;
  /** `successor`: who waits for it waits for that one instead. */
  close(view: HostedView, successor: boolean): void;
  /** The partitions of a version of `definition`'s view as of their newest snapshots; null when there is not one of each. */
  restore(
    id: string,
    definition: ProjectionDefinition,
    where: { topic: TopicDescription; clusterId: string },
  ): Promise<readonly MapView[] | null>;
  /** Takes away this host's snapshots of versions that are not served any more, when it has one of the view that is. */
  discard(ids: readonly string[], by: HostedView, where: { topic: TopicDescription; clusterId: string }): void;
}

/** The states of a version whose code is gone, as of its last snapshot: better than nothing for who asks for stale reads. */
export interface KeptVersion {
  readonly version: number;
  readonly partitions: readonly MapView[];
}

interface ProjectedView {
  readonly name: string;
  /** Newest first. */
  readonly definitions: readonly ProjectionDefinition[];
  newest: HostedView | null;
  /** A registered version that serves until the newest has caught up. */
  older: HostedView | null;
  kept: KeptVersion | null;
  caughtUp: boolean;
  targets: readonly Offset[];
  /** When the newest was open in all partitions, and how far it was: what its speed is reckoned from. */
  began: { readonly ms: number; readonly offset: number } | null;
  refusal: string;
}

/**
 * Which version of each projection is served. A new one is built beside the old one, from its own newest snapshot or the start of the log,
 * and takes over in one turn when it has caught up, on each host for itself. Until then the old one serves: live when its code is registered
 * too, else as of its last snapshot, which answers stale reads and no others.
 */
export class ProjectionVersions {
  private readonly views: readonly ProjectedView[];
  private closed = false;

  constructor(
    definitions: readonly ProjectionDefinition[],
    private readonly options: {
      readonly host: VersionHost;
      readonly log: CommandLog;
      readonly clock: Clock;
      readonly scheduler: Scheduler;
      readonly swapped?: (view: string, version: number) => void;
    },
  ) {
    this.views = [...versionsByName(definitions)].map(([name, versions]) => ({
      name,
      definitions: versions,
      newest: null,
      older: null,
      kept: null,
      caughtUp: false,
      targets: [],
      began: null,
      refusal: 'the topics are not known yet',
    }));
  }

  follow(cluster: ClusterDescription): void {
    for (const view of this.views) {
      const [definition, previous] = view.definitions;
      const topic = cluster.topics.find(({ name }) => name === definition.topic);
      const refusal = refusalOf(definition, topic, cluster);
      view.refusal = refusal;
      if (refusal !== '') {
        this.shut(view);
      } else if (view.newest === null) {
        view.newest = this.options.host.open(definition, topic!, cluster.clusterId);
        if (previous !== undefined) view.older = this.options.host.open(previous, topic!, cluster.clusterId);
        else void this.keep(view, topic!, cluster.clusterId);
        void this.catchUp(view, topic!, cluster.clusterId);
      }
    }
  }

  private shut(view: ProjectedView): void {
    const { host } = this.options;
    if (view.newest) host.close(view.newest, false);
    if (view.older) host.close(view.older, false);
    view.newest = view.older = view.kept = view.began = null;
    view.caughtUp = false;
  }

  /** Looks for what a version without code has left behind. */
  private async keep(view: ProjectedView, topic: TopicDescription, clusterId: string): Promise<void> {
    const [definition] = view.definitions;
    const { name, version } = definition;
    const { newest } = view;
    for (const below of versionsBelow(version)) {
      const partitions = await this.options.host.restore(`${name}@${below}`, definition, { topic, clusterId });
      if (this.closed || view.newest !== newest || view.caughtUp) return;
      if (partitions === null) continue;
      view.kept = { version: below, partitions };
      return;
    }
  }

  /** Follows the newest version until it has caught up with the log, and lets it take over. */
  private async catchUp(view: ProjectedView, topic: TopicDescription, clusterId: string): Promise<void> {
    const { log, clock, scheduler, host, swapped } = this.options;
    const newest = view.newest!;
    const partitions = (): HostedPartition[] => newest.partitions.filter(isOpen);
    const reached = (lag: number): boolean =>
      partitions().every(({ view: map }, i) => map.offset + lag >= (view.targets[i] ?? Number.POSITIVE_INFINITY));
    for (;;) {
      // The end of the log as it was at the last look is reached: look again how far it has gone meanwhile.
      const there = view.targets.length > 0 && reached(0);
      if (partitions().length === newest.partitions.length && (view.targets.length === 0 || there)) {
        view.began ??= { ms: clock.monotonicMs(), offset: appliedBy(newest) };
        const barriers = await Promise.all(
          newest.partitions.map((_, partition) => log.barrier({ topic: topic.name, partition })),
        ).catch(() => null);
        if (this.closed || view.newest !== newest) return;
        if (barriers !== null) {
          view.targets = barriers.map(({ offset }) => offset);
          if (there && reached(SWAP_LAG_RECORDS_MAX)) break;
        }
      }
      await new Promise<void>((resolve) => {
        scheduler.after(PROGRESS_MS, resolve);
      });
      if (this.closed || view.newest !== newest) return;
    }
    view.caughtUp = true;
    view.kept = null;
    const { older } = view;
    view.older = null;
    if (older) host.close(older, true);
    const [{ name, version }] = view.definitions;
    const below = versionsBelow(version).map((one) => `${name}@${one}`);
    host.discard(below, newest, { topic, clusterId });
    swapped?.(name, version);
  }

  /** Whose states are served under this name; null: none of that name is hosted. */
  serving(name: string): HostedView | KeptVersion | null {
    const view = this.views.find((each) => each.name === name);
    if (view === undefined || view.refusal !== '') return null;
    return view.caughtUp ? view.newest : (view.older ?? view.kept ?? view.newest);
  }

  /** Why no view of that name can be read; null: it can be, or there is none. */
  refusalOf(name: string): string | null {
    const view = this.views.find((each) => each.name === name);
    return view === undefined || view.refusal === '' ? null : view.refusal;
  }

  /** Versions in whose place another one is served: that they lag is no reason not to be ready. */
  isBuilding(hosted: HostedView): boolean {
    return this.views.some((view) => view.newest === hosted && this.serving(view.name) !== hosted);
  }

  descriptions(): ProjectionDescription[] {
    return this.views.map((view) => {
      const [definition] = view.definitions;
      const served = this.serving(view.name);
      const halted = [view.older, view.newest].flatMap((hosted) => (hosted === null ? [] : haltsOf(hosted)));
      const isServed = served !== null && 'name' in served;
      return {
        view: view.name,
        topic: definition.topic,
        version: served === null ? definition.version : 'version' in served ? served.version : versionOf(served),
        state:
          view.refusal !== ''
            ? 'refused'
            : halted.length > 0
              ? 'halted'
              : view.caughtUp || view.older !== null
                ? 'live'
                : 'building',
        indexes: definition.indexNames,
        archive: definition.archive,
        building: view.caughtUp || view.newest === null ? null : this.progressOf(view),
        halted,
        parked: isServed ? parkedBy(served) : 0,
        refusal: view.refusal,
      };
    });
  }

  private progressOf(view: ProjectedView): ProjectionBuilding {
    const newest = view.newest!;
    const offset = appliedBy(newest);
    const targets = newest.partitions.map((hosted, i) =>
      Math.max(view.targets[i] ?? 0, hosted?.feed.commitOffset ?? 0),
    );
    const target = targets.reduce((sum, one) => sum + one, 0);
    const elapsedMs = view.began === null ? 0 : this.options.clock.monotonicMs() - view.began.ms;
    const done = view.began === null ? 0 : offset - view.began.offset;
    return {
      version: view.definitions[0].version,
      offset,
      target,
      percent: target === 0 ? 0 : Math.floor((Math.min(offset, target) / target) * 1000) / 10,
      etaSeconds: done > 0 && elapsedMs > 0 ? Math.ceil(((target - offset) / done) * (elapsedMs / 1000)) : null,
    };
  }

  close(): void {
    this.closed = true;
  }
}

/** Those that may have left something behind, newest first. */
const versionsBelow = (version: number): number[] =>
  Array.from({ length: Math.min(version - 1, KEPT_VERSIONS_BACK) }, (_, i) => version - 1 - i);

/** Newest first. @throws TidelineError `bad-option` */
export const versionsByName = (
  definitions: readonly ProjectionDefinition[],
): Map<string, readonly ProjectionDefinition[]> => {
  const byName = new Map<string, ProjectionDefinition[]>();
  for (const definition of definitions) {
    const versions = byName.get(definition.name) ?? [];
    if (versions.some(({ version }) => version === definition.version)) {
      throw new TidelineError('bad-option', `view ${definition.name} has two classes of version ${definition.version}`);
    }
    if (versions.some(({ topic }) => topic !== definition.topic)) {
      throw new TidelineError('bad-option', `the versions of view ${definition.name} are of different topics`);
    }
    byName.set(definition.name, [...versions, definition]);
  }
  for (const [name, versions] of byName) {
    versions.sort((a, b) => b.version - a.version);
    if (versions.length > 2) {
      throw new TidelineError(
        'bad-option',
        `view ${name} has ${versions.length} versions; the newest and the one before do`,
      );
    }
  }
  return byName;
};

const refusalOf = (
  definition: ProjectionDefinition,
  topic: TopicDescription | undefined,
  { topics }: ClusterDescription,
): string => {
  if (topics.some(({ name, view }) => name === definition.name && view.kind !== 'none'))
    return `topic ${definition.name} has a map view of that name`;
  if (topic === undefined) return `there is no topic ${definition.topic}`;
  if (definition.rekeyed && topic.partitions.length > 1)
    return `its states have other keys than the records of topic ${topic.name}, which has ${topic.partitions.length} partitions: the events of one state would be in several`;
  return '';
};

const versionOf = (hosted: HostedView): number => hosted.definition!.version;

const appliedBy = ({ partitions }: HostedView): number =>
  partitions.reduce((sum, hosted) => sum + (hosted?.view.offset ?? 0), 0);

const parkedBy = ({ partitions }: HostedView): number =>
  partitions.reduce((sum, hosted) => sum + (hosted?.projection?.parkedCount ?? 0), 0);

const haltsOf = (hosted: HostedView): ProjectionDescription['halted'] =>
  hosted.partitions.filter(isOpen).flatMap(({ partition, projection }) => {
    if (!projection?.halt) return [];
    const { offset, reason } = projection.halt;
    return [{ partition, offset, reason: `version ${versionOf(hosted)}: ${reason}` }];
  });
