import { TidelineError } from '#kernel';
import type { ClusterDescription, CommandLog, PartitionDescription, TopicDescription } from '#command-log';

/** Names that start so belong to the system: they are not shown, read or written through a gateway. */
const INTERNAL_PREFIX = '__';

export const isInternalTopic = (name: string): boolean => name.startsWith(INTERNAL_PREFIX);

/** Topics and views by name, as last heard from the log; asking costs nothing for a known one. */
export class TopicDirectory {
  private topics = new Map<string, TopicDescription>();
  private readonly stopListening: () => void;

  constructor(private readonly log: CommandLog) {
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
        throw new TidelineError('unknown-view', `no view is named ${name}`, { details: { view: name } });
      }
      throw error;
    }
    if (topic.view.kind === 'none') {
      throw new TidelineError('unknown-view', `topic ${name} has no view`, { details: { view: name } });
    }
    return topic;
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
