import { ByteReader, ByteWriter, TidelineError, asNodeId, assert, type NodeId, type Offset } from '#kernel';
import type { Configuration } from './types.js';

/**
 * Who belongs to the group, its encoding, and the steps from one membership to the next (Raft dissertation, chapter 4).
 *
 *     {voters: V, outgoing: –, learners: L} ── same voters ────────────────► {V, –, L'}
 *                    │
 *                    └─ other voters ─► joint {V', V, L'} ── committed ────► {V', –, L'}
 *
 * While joint, an election or a commit needs a majority of both sets of voters. A configuration is in force as soon as it is in the log.
 *
 * Encoding, version 1:
 *
 *     u8      version      1
 *     varint  count, then count × varint node id      voters
 *     varint  count, then count × varint node id      outgoing
 *     varint  count, then count × varint node id      learners
 */
const CONFIGURATION_VERSION = 1;

/** Members of one group, all kinds together. */
export const MEMBERS_MAX = 64;
const NODE_ID_MAX = 0x7fff_ffff;

export type ConfigurationTarget = Pick<Configuration, 'voters' | 'learners'>;

export const encodeConfiguration = (configuration: Configuration): Uint8Array => {
  const writer = new ByteWriter(64);
  writer.u8(CONFIGURATION_VERSION);
  for (const ids of [configuration.voters, configuration.outgoing, configuration.learners]) {
    writer.varint(ids.length);
    for (const id of ids) writer.varint(id);
  }
  return writer.finish();
};

/** Errors: `unsupported-version`, `malformed-frame`. */
export const decodeConfiguration = (bytes: Uint8Array): Configuration => {
  const reader = new ByteReader(bytes);
  const version = reader.u8();
  if (version !== CONFIGURATION_VERSION) {
    throw new TidelineError('unsupported-version', `configuration version ${version}`);
  }
  const readIds = (): NodeId[] => {
    const count = reader.varint();
    if (count > MEMBERS_MAX) throw new TidelineError('malformed-frame', `${count} members, at most ${MEMBERS_MAX}`);
    const ids: NodeId[] = [];
    for (let i = 0; i < count; i++) ids.push(asNodeId(reader.varint()));
    if (!areDistinctIds(ids)) throw new TidelineError('malformed-frame', 'member ids are not distinct node ids');
    return ids;
  };
  const configuration = { voters: readIds(), outgoing: readIds(), learners: readIds() };
  if (reader.remaining > 0) throw new TidelineError('malformed-frame', 'bytes after the configuration');
  return configuration;
};

const areDistinctIds = (ids: readonly NodeId[]): boolean =>
  ids.every((id, i) => Number.isInteger(id) && id >= 1 && id <= NODE_ID_MAX && ids.indexOf(id) === i);

/** Whether this may be asked for at all: somebody votes, nobody is named twice, not too many. */
export const isValidTarget = (target: ConfigurationTarget): boolean =>
  target.voters.length > 0 &&
  target.voters.length + target.learners.length <= MEMBERS_MAX &&
  areDistinctIds([...target.voters, ...target.learners]);

const sameMembers = (a: readonly NodeId[], b: readonly NodeId[]): boolean =>
  a.length === b.length && a.every((id) => b.includes(id));

export const isJoint = (configuration: Configuration): boolean => configuration.outgoing.length > 0;

export const isVoter = (configuration: Configuration, id: NodeId): boolean =>
  configuration.voters.includes(id) || configuration.outgoing.includes(id);

/** Everybody the log is sent to, each once. */
export const membersOf = (configuration: Configuration): NodeId[] => [
  ...new Set([...configuration.voters, ...configuration.outgoing, ...configuration.learners]),
];

export const isSameTarget = (configuration: Configuration, target: ConfigurationTarget): boolean =>
  !isJoint(configuration) &&
  sameMembers(configuration.voters, target.voters) &&
  sameMembers(configuration.learners, target.learners);

/** First entry of a change: joint if voters change, the target itself otherwise. */
export const towards = (current: Configuration, target: ConfigurationTarget): Configuration => ({
  voters: [...target.voters],
  outgoing: sameMembers(current.voters, target.voters) ? [] : current.voters,
  learners: [...target.learners],
});

/** Last entry of a change. */
export const leaveJoint = (joint: Configuration): Configuration => ({
  voters: joint.voters,
  outgoing: [],
  learners: joint.learners,
});

interface ConfigurationAt {
  readonly configuration: Configuration;
  readonly offset: Offset;
}

/**
 * The configurations of the log, newest last, back to the newest one that is committed: what a truncation can bring back.
 * Since a change starts only after the one before it is committed, these are two at most on a leader.
 */
export class ConfigurationHistory {
  private readonly items: ConfigurationAt[] = [];

  constructor(parts: { current: ConfigurationAt; previous: ConfigurationAt | undefined; commit: Offset }) {
    if (parts.previous !== undefined) this.items.push(parts.previous);
    this.items.push(parts.current);
    this.settle(parts.commit);
  }

  /**
   * Whether a node may campaign: a voter, or one that stops being a voter by a change that is not known to be committed. The change may
   * depend on it: the voters that stay may all be behind those that go (dissertation, section 4.2.2).
   */
  mayCampaign(id: NodeId): boolean {
    return this.items.some(({ configuration }) => isVoter(configuration, id));
  }

  get current(): Configuration {
    return this.items[this.items.length - 1].configuration;
  }

  get currentOffset(): Offset {
    return this.items[this.items.length - 1].offset;
  }

  append(configuration: Configuration, offset: Offset): void {
    assert(offset > this.currentOffset, 'configurations follow one another');
    this.items.push({ configuration, offset });
  }

  truncateAfter(offset: Offset): void {
    while (this.currentOffset > offset) {
      assert(this.items.length > 1, 'a configuration cut from the log has one before it');
      this.items.pop();
    }
  }

  /** Forgets what no truncation can bring back. */
  settle(commit: Offset): void {
    while (this.items.length > 1 && this.items[1].offset <= commit) this.items.shift();
  }

  /** A snapshot replaced the log. */
  replace(configuration: Configuration, offset: Offset): void {
    this.items.length = 0;
    this.items.push({ configuration, offset });
  }
}
