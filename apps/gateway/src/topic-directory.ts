import { TidelineError } from '#kernel';
import type { ClusterDescription, CommandLog, PartitionDescription, TopicDescription } from '#command-log';
import type { ProjectionDescription } from '#views';

/** Names that start so belong to the system: they are not shown, read or written through a gateway. */
const INTERNAL_PREFIX = '__';

export const isInternalTopic = (name: string): boolean => name.startsWith(INTERNAL_PREFIX);

/** A view that can be read, and the topic it is built from. */
export interface ReadableView {
  readonly view: string;
  readonly topic: TopicDescription;
}

/**
 * Topics and views by name, as last heard from the log and from a host of projections; asking costs nothing for a known one. A name that
 * neither knows is asked for again each time: it may have come meanwhile.
 */
export class TopicDirectory {
  private topics = new Map<string, TopicDescription>();
  private readonly stopListening: () => void;
  /** Topic by name of the projection. */
  private projections = new Map<string, string>();
  private asking: Promise<void> | null = null;

  constructor(
    private readonly log: CommandLog,
    private readonly askProjections: () => Promise<readonly ProjectionDescription[]>,
  ) {
    const subscription = log.changes.subscribe((description) => this.learn(description));
    this.stopListening = () => subscription.unsubscribe();
  }

  private learn(description: ClusterDescription): void {
    this.topics = new Map(description.topics.map((topic) => [topic.name, topic]));
  }

  /** The cluster as it is now, offsets included: asks. Without the system's topics. */
  async describe(): Promise<ClusterDescription> {
    await this.log.refresh();
    const description = this.log.describe();
    return { ...description, topics: description.topics.filter((topic) => !isInternalTopic(topic.name)) };
  }

  /** As last heard; null for one never heard of. */
  known(name: string): TopicDescription | null {
    return isInternalTopic(name) ? null : (this.topics.get(name) ?? null);
  }

  /** @throws (rejects) TidelineError `unknown-topic` */
  async topic(name: string): Promise<TopicDescription> {
    if (isInternalTopic(name)) throw new TidelineError('unknown-topic', `topic ${name} belongs to the system`);
    return this.topics.get(name) ?? (await this.log.topic(name));
  }

  /** The topic whose map view has this name. @throws (rejects) TidelineError `unknown-view` */
  async view(name: string): Promise<TopicDescription> {
    let topic: TopicDescription;
    try {
      topic = await this.topic(name);
    } catch (error) {
      if (error instanceof TidelineError && error.code === 'unknown-topic') {
        const projection = await this.projection(name);
        if (projection) {
          const message = `view ${name} is a projection: it is written by events of topic ${projection.topic.name}`;
          throw new TidelineError('method-not-allowed', message, { details: { topic: projection.topic.name } });
        }
        throw new TidelineError('unknown-view', `no view is named ${name}`, { details: { view: name } });
      }
      throw error;
    }
    if (topic.view.kind === 'none') {
      throw new TidelineError('unknown-view', `topic ${name} has no view`, { details: { view: name } });
    }
    return topic;
  }

  /** A map view or a projection. Null: none of that name is known, or asking is needed. */
  knownView(name: string): ReadableView | null {
    const topic = this.known(name);
    if (topic !== null && topic.view.kind !== 'none') return { view: name, topic };
    const of = this.projections.get(name);
    const source = of === undefined ? null : this.known(of);
    return source === null ? null : { view: name, topic: source };
  }

  /** A map view or a projection. @throws (rejects) TidelineError `unknown-view` */
  async readable(name: string): Promise<ReadableView> {
    const known = this.knownView(name) ?? (await this.projection(name));
    if (known !== null) return known;
    const topic = await this.view(name);
    return { view: topic.name, topic };
  }

  private async projection(name: string): Promise<ReadableView | null> {
    if (isInternalTopic(name)) return null;
    if (!this.projections.has(name)) await this.refreshProjections();
    const of = this.projections.get(name);
    return of === undefined ? null : { view: name, topic: await this.topic(of) };
  }

  /** Callers that wait share one question. Without an answer what was known stands. */
  private refreshProjections(): Promise<void> {
    this.asking ??= this.askProjections()
      .then(
        (list) => {
          this.projections = new Map(list.map(({ view, topic }) => [view, topic]));
        },
        () => undefined,
      )
      .finally(() => {
        this.asking = null;
      });
    return this.asking;
  }

  close(): void {
    this.stopListening();
  }
}

/** @throws TidelineError `unknown-partition` */
export const partitionOfTopic = (topic: TopicDescription, partition: number): PartitionDescription => {
  const found = topic.partitions[partition];
  if (found) return found;
  throw new TidelineError(
    'unknown-partition',
    `topic ${topic.name} has partitions 0 to ${topic.partitions.length - 1}, not ${partition}`,
    { details: { topic: topic.name, partition, partitions: topic.partitions.length } },
  );
};
