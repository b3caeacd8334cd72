import {
  PARTITIONS_MAX,
  TOPIC_NAME_PATTERN,
  TidelineError,
  asGroupId,
  asOffset,
  viewSettingsOf,
  type GroupId,
  type Offset,
  type Scheduler,
  type ViewSettings,
} from '#kernel';
import { encodeBatch, type RecordInput } from '#wire';
import { MetaDirectory, TOPIC_KEY_PREFIX, type TopicEntry } from './meta-directory.js';
import type { Group } from './replica-group.js';
import type { ReplicaNode } from './replica-node.js';

/** What a topic is to be. */
export interface TopicSpec {
  readonly name: string;
  /** 1 by default. */
  readonly partitions?: number;
  readonly retention?: { readonly ms?: number | null; readonly bytes?: number | null };
  readonly view?: { readonly kind?: 'map' | 'none' } & Partial<ViewSettings>;
}

/** Exactly one of the two is null. */
export type TopicCallback = (error: TidelineError | null, topic: TopicEntry | null) => void;

export interface MetaControllerOptions {
  readonly node: ReplicaNode;
  /** Group 0 of that node. */
  readonly group: Group;
  readonly wallMs: () => number;
  readonly scheduler: Scheduler;
  /** Folder of a group's log. */
  readonly directoryOf: (group: GroupId) => string;
  /** A deleted topic's partition is closed; its folder may be removed. */
  readonly discard?: (directory: string) => void;
  /** A partition's log could not be opened. The others go on. */
  readonly onOpenFailed: (group: GroupId, error: TidelineError) => void;
}

/** Commands waiting for their turn; beyond it `overloaded`. */
export const TOPIC_COMMANDS_MAX = 1000;
/** A wanted topic that was refused (the disk is nearly full, …) is asked for again after this time. */
const WANTED_RETRY_MS = 1000;
const READ_BYTES = 1024 * 1024;

interface Command {
  /** Decides on the newest state there is. */
  readonly decide: () => { readonly record: RecordInput; readonly topic: TopicEntry } | TidelineError;
  readonly done: TopicCallback;
}

/**
 * Follows the committed log of group 0 on every node, and opens and closes the partitions it names. On the node that leads group 0 it also
 * decides: one command at a time, each on a directory that holds all before it, so that no two get the same group numbers.
 */
export class MetaController {
  readonly directory = new MetaDirectory();
  private readonly listeners = new Set<(directory: MetaDirectory) => void>();
  private readonly commands: Command[] = [];
  private wanted: readonly TopicSpec[] = [];
  /** A command is under way: it is appended, then committed, then folded. */
  private deciding = false;
  private folding: { readonly offset: Offset; readonly done: () => void } | null = null;
  private reading = false;
  private readonly opened = new Set<GroupId>();
  private readonly stops: (() => void)[];
  private cancelRetry: (() => void) | null = null;
  private closed = false;

  constructor(private readonly options: MetaControllerOptions) {
    const { group } = options;
    this.stops = [group.onCommit(() => this.follow()), group.onRoleChange(() => this.pump())];
    this.follow();
  }

  /** Called whenever a topic came, changed or went. Returns a function that ends it. */
  onChange(listener: (directory: MetaDirectory) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Topics to be there from the first start on: whoever leads creates those that never were. */
  ensureTopics(topics: readonly TopicSpec[]): void {
    this.wanted = topics;
    this.pump();
  }

  /** Done when the topic is committed and its partitions are open on this node. Errors: `not-leader`, `topic-exists`, `bad-request`, … */
  createTopic(spec: TopicSpec, done: TopicCallback): void {
    const error = problemOf(spec);
    if (error !== null) done(error, null);
    else this.enqueue({ decide: () => this.decideCreate(spec), done });
  }

  /** Its log is gone when this is done; what its views hold is theirs to drop. Errors: `not-leader`, `unknown-topic`. */
  deleteTopic(name: string, done: TopicCallback): void {
    this.enqueue({
      decide: () => {
        const topic = this.directory.topics.get(name);
        if (topic === undefined) return new TidelineError('unknown-topic', `no topic ${name}`);
        return { record: { key: keyOf(name), value: null }, topic };
      },
      done,
    });
  }

  close(): void {
    this.closed = true;
    this.cancelRetry?.();
    for (const stop of this.stops) stop();
    this.refuseAll(new TidelineError('shutting-down', 'the node is stopping'));
    this.listeners.clear();
  }

  /* ---- following ---- */

  private follow(): void {
    const { group } = this.options;
    if (this.reading || this.closed || group.readableOffset <= this.directory.offset) {
      this.pump();
      return;
    }
    this.reading = true;
    let changed = false;
    const next = (): void => {
      group.read({ from: asOffset(this.directory.offset + 1), maxBytes: READ_BYTES }, (error, result) => {
        if (this.closed) return;
        if (error !== null || result!.batches.length === 0) {
          this.reading = false;
          if (changed) this.reconcile();
          this.endDecision();
          return;
        }
        if (this.directory.apply(result!.batches)) changed = true;
        next();
      });
    };
    next();
  }

  /** Opens what the directory names and closes what it no longer does. */
  private reconcile(): void {
    const { node, directoryOf, discard, onOpenFailed } = this.options;
    const named = new Set<GroupId>();
    for (const { partitions, voters } of this.directory.topics.values()) {
      for (const group of partitions) {
        named.add(group);
        if (this.opened.has(group)) continue;
        this.opened.add(group);
        try {
          node.openGroup({ group, directory: directoryOf(group), bootstrapVoters: voters });
        } catch (error) {
          if (!(error instanceof TidelineError)) throw error;
          onOpenFailed(group, error);
        }
      }
    }
    for (const group of this.opened) {
      if (named.has(group)) continue;
      this.opened.delete(group);
      node.closeGroup(group, () => discard?.(directoryOf(group)));
    }
    for (const listener of this.listeners) listener(this.directory);
  }

  /* ---- deciding ---- */

  private enqueue(command: Command): void {
    if (this.closed) command.done(new TidelineError('shutting-down', 'the node is stopping'), null);
    else if (!this.options.group.isLeader) command.done(this.notLeader(), null);
    else if (this.commands.length >= TOPIC_COMMANDS_MAX) {
      command.done(new TidelineError('overloaded', 'too many changes of topics are waiting'), null);
    } else {
      this.commands.push(command);
      this.pump();
    }
  }

  private notLeader(): TidelineError {
    const { leader } = this.options.group;
    return new TidelineError('not-leader', 'this node does not lead the metadata', { details: { leader } });
  }

  private refuseAll(error: TidelineError): void {
    for (const command of this.commands.splice(0)) command.done(error, null);
  }

  private pump(): void {
    const { group } = this.options;
    if (this.closed || this.deciding) return;
    if (!group.isLeader) {
      this.refuseAll(this.notLeader());
      return;
    }
    // Everything earlier leaders decided is committed and folded, and so is everything of this one.
    if (!group.isEstablishedLeader || this.directory.offset < group.commitOffset) return;
    const command = this.commands.shift() ?? this.commandOfWanted();
    if (command !== null) this.carryOut(command);
  }

  private commandOfWanted(): Command | null {
    const spec = this.wanted.find(({ name }) => !this.directory.knows(name));
    return spec === undefined ? null : { decide: () => this.decideCreate(spec), done: () => {} };
  }

  private carryOut({ decide, done }: Command): void {
    const decision = decide();
    if (decision instanceof TidelineError) {
      done(decision, null);
      this.pump();
      return;
    }
    const { group, wallMs } = this.options;
    this.deciding = true;
    const batch = encodeBatch([decision.record], { createTime: wallMs() });
    group.append(batch, { acks: 'quorum' }, (error, appended) => {
      if (error !== null) {
        this.deciding = false;
        done(error, null);
        // What refused a topic wanted from the start would refuse it again at once.
        if (this.commands.length > 0) this.pump();
        else
          this.cancelRetry ??= this.options.scheduler.after(WANTED_RETRY_MS, () => {
            this.cancelRetry = null;
            this.pump();
          });
        return;
      }
      this.folding = { offset: appended!.lastOffset, done: () => done(null, decision.topic) };
      this.endDecision();
    });
  }

  /** A command is done when this node has folded it. */
  private endDecision(): void {
    const { folding } = this;
    if (folding !== null && this.directory.offset >= folding.offset) {
      this.folding = null;
      this.deciding = false;
      folding.done();
    }
    this.pump();
  }

  private decideCreate(spec: TopicSpec): { record: RecordInput; topic: TopicEntry } | TidelineError {
    const { name, partitions = 1, retention, view } = spec;
    const settings = viewSettingsOf(view ?? {});
    if (typeof settings === 'string') return new TidelineError('bad-request', `a view's ${settings}`);
    if (this.directory.topics.has(name)) return new TidelineError('topic-exists', `topic ${name} exists`);
    const { voters } = this.options.group.configuration;
    const first = this.directory.nextGroup;
    const topic: TopicEntry = {
      name,
      partitions: Array.from({ length: partitions }, (_, i) => asGroupId(first + i)),
      replication: voters.length,
      retention: { ms: retention?.ms ?? null, bytes: retention?.bytes ?? null },
      view: { kind: view?.kind ?? 'map', ...settings },
      voters,
    };
    return { record: { key: keyOf(name), value: Buffer.from(JSON.stringify(topic)) }, topic };
  }
}

const keyOf = (name: string): Buffer => Buffer.from(`${TOPIC_KEY_PREFIX}${name}`);

const problemOf = ({ name, partitions = 1, retention, view }: TopicSpec): TidelineError | null => {
  if (!TOPIC_NAME_PATTERN.test(name)) {
    return new TidelineError('bad-request', `a topic's name is 1 to 128 letters, digits, dots, underscores and dashes`);
  }
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > PARTITIONS_MAX) {
    return new TidelineError('bad-request', `a topic has 1 to ${PARTITIONS_MAX} partitions`);
  }
  for (const limit of [retention?.ms, retention?.bytes]) {
    if (limit !== undefined && limit !== null && (!Number.isSafeInteger(limit) || limit < 1)) {
      return new TidelineError('bad-request', 'a retention limit is a whole number from 1');
    }
  }
  const settings = viewSettingsOf(view ?? {});
  if (typeof settings === 'string') return new TidelineError('bad-request', `a view's ${settings}`);
  return null;
};
