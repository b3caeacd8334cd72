import {
  ByteReader,
  ByteWriter,
  NO_OFFSET,
  NO_TERM,
  TidelineError,
  asLogTime,
  asOffset,
  asTerm,
  assert,
  type LogTime,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import { decodeConfiguration, encodeConfiguration, type Configuration } from '#raft';
import { ControlKind, batchFirstOffset, batchLastOffset, batchLogTime, batchTerm } from '#wire';
import { SESSION_LIMITS, SessionTable, type SessionLimits } from './session-table.js';

export interface ConfigurationAt {
  readonly configuration: Configuration;
  readonly offset: Offset;
}

/**
 * What the headers of a log add up to: its end, its log time, the Raft configuration in force and the session table. Like the sessions it
 * follows the log to its end and goes back with it.
 *
 * Serialised, version 1 (little endian):
 *
 *     u8 version · u64 offset · u32 term · u64 log time · u64 configuration offset · varint length, configuration · session table
 */
const FORMAT_VERSION = 1;

export class LogState {
  lastOffset: Offset;
  lastTerm: Term;
  /** Log time of the last batch. After a truncation it may be that of a batch cut off: an upper bound, which is what a leader needs. */
  logTime: LogTime = asLogTime(0);
  /** Offset of the first batch with the current log time. */
  logTimeSince: Offset = NO_OFFSET;
  /** Newest last; back to the newest that is committed. Never empty. */
  private readonly configurations: ConfigurationAt[];

  private constructor(
    lastOffset: Offset,
    lastTerm: Term,
    configuration: ConfigurationAt,
    readonly sessions: SessionTable,
  ) {
    this.lastOffset = lastOffset;
    this.lastTerm = lastTerm;
    this.configurations = [configuration];
  }

  /** Of an empty log whose first voters are these. */
  static initial(voters: readonly NodeId[], limits: SessionLimits = SESSION_LIMITS): LogState {
    const configuration = { voters: [...voters], outgoing: [], learners: [] };
    return new LogState(NO_OFFSET, NO_TERM, { configuration, offset: NO_OFFSET }, new SessionTable(limits));
  }

  get configuration(): ConfigurationAt {
    return this.configurations[this.configurations.length - 1];
  }

  /** The one before, as long as a truncation may bring it back. */
  get previousConfiguration(): ConfigurationAt | undefined {
    return this.configurations[this.configurations.length - 2];
  }

  /** Takes in the next batch: its header, and for a control batch its kind (otherwise 0) and payload. */
  apply(header: Uint8Array, controlKind: number, controlPayload: Uint8Array | null, revocable: boolean): void {
    assert(batchFirstOffset(header) === this.lastOffset + 1, 'batches are folded in order');
    const logTime = batchLogTime(header);
    if (logTime > this.logTime) {
      this.logTime = logTime;
      this.logTimeSince = batchFirstOffset(header);
    }
    this.sessions.apply(header, controlKind, revocable);
    if (controlKind === ControlKind.Configuration && controlPayload !== null) {
      if (!revocable) this.configurations.length = 0;
      this.configurations.push({
        configuration: decodeConfiguration(controlPayload),
        offset: batchFirstOffset(header),
      });
    }
    this.lastOffset = batchLastOffset(header);
    this.lastTerm = batchTerm(header);
  }

  /** Nothing at or below `offset` will be taken back. */
  commit(offset: Offset): void {
    this.sessions.commit(offset);
    const { configurations } = this;
    while (configurations.length > 1 && configurations[1].offset <= offset) configurations.shift();
  }

  /** Back to the end of a batch; `term` is that batch's. */
  truncateAfter(offset: Offset, term: Term): void {
    if (offset >= this.lastOffset) return;
    this.sessions.truncateAfter(offset);
    while (this.configurations.length > 1 && this.configuration.offset > offset) this.configurations.pop();
    this.lastOffset = offset;
    this.lastTerm = term;
    if (this.logTimeSince > offset) this.logTimeSince = asOffset(offset + 1);
  }

  /** The same with nobody in the session table. */
  withoutSessions(): LogState {
    const state = new LogState(this.lastOffset, this.lastTerm, this.configuration, new SessionTable());
    state.logTime = this.logTime;
    return state;
  }

  encode(): Buffer {
    const { configuration, offset } = this.configuration;
    const writer = new ByteWriter(1024);
    writer.u8(FORMAT_VERSION).u64(this.lastOffset).u32(this.lastTerm).u64(this.logTime);
    writer.u64(offset).lengthPrefixed(encodeConfiguration(configuration));
    this.sessions.encode(writer);
    return writer.finish();
  }

  /** @throws TidelineError `malformed-frame` | `unsupported-version` */
  static decode(bytes: Uint8Array, limits: SessionLimits = SESSION_LIMITS): LogState {
    const reader = new ByteReader(bytes);
    const version = reader.u8();
    if (version !== FORMAT_VERSION) throw new TidelineError('unsupported-version', `log state version ${version}`);
    const lastOffset = reader.offset();
    const lastTerm = asTerm(reader.u32());
    const logTime = asLogTime(reader.u64());
    const configurationOffset = reader.offset();
    const configuration = decodeConfiguration(reader.lengthPrefixed());
    const sessions = SessionTable.decode(reader, limits);
    if (reader.remaining > 0) throw new TidelineError('malformed-frame', 'bytes after the log state');
    const state = new LogState(lastOffset, lastTerm, { configuration, offset: configurationOffset }, sessions);
    state.logTime = logTime;
    state.logTimeSince = asOffset(lastOffset + 1);
    return state;
  }
}
