import type { NodeId, Offset } from '#kernel';
import type { AppendResponse, LogRead, Message, ReadResult, SnapshotInfo } from './types.js';

const NONE: readonly never[] = Object.freeze([]);

/** What has gathered since the last `ready()`, besides the log itself. */
export class Outbox {
  private now: Message[] = [];
  private afterPersist: Message[] = [];
  private readResults: ReadResult[] = [];
  private reads: LogRead[] = [];
  private wanted: NodeId[] = [];
  /** At most one append response per leader and ready: a later one says all that an earlier one said. */
  private appendResponse: AppendResponse | null = null;

  snapshot: SnapshotInfo | null = null;
  keepSuffix = false;
  truncateAfter: Offset | null = null;

  /** To go at once. */
  send(message: Message): void {
    this.now.push(message);
  }

  /** To go when what this ready persists is durable. */
  sendAfterPersist(message: Message): void {
    this.afterPersist.push(message);
  }

  respondToAppend(response: AppendResponse): void {
    const last = this.appendResponse;
    if (last !== null && (last.to !== response.to || last.term !== response.term)) this.postAppendResponse(last);
    else if (last !== null && last.success && response.success && last.offset > response.offset) return;
    this.appendResponse = response;
  }

  /** The log has been cut after `offset`: what was acknowledged beyond it in this turn will not be durable. */
  forgetAcknowledgements(offset: Offset): void {
    const reaches = (message: Message): boolean =>
      message.type === 'append-response' && message.success && message.offset > offset;
    if (this.appendResponse !== null && reaches(this.appendResponse)) this.appendResponse = null;
    if (this.afterPersist.some(reaches)) this.afterPersist = this.afterPersist.filter((message) => !reaches(message));
  }

  private postAppendResponse(response: AppendResponse): void {
    // A refusal promises nothing that must be durable.
    if (response.success) this.afterPersist.push(response);
    else this.now.push(response);
  }

  answerRead(id: number, offset: Offset | null): void {
    this.readResults.push({ id, offset });
  }

  readLog(read: LogRead): void {
    this.reads.push(read);
  }

  wantSnapshot(peer: NodeId): void {
    this.wanted.push(peer);
  }

  get isEmpty(): boolean {
    return (
      this.now.length === 0 &&
      this.afterPersist.length === 0 &&
      this.appendResponse === null &&
      this.readResults.length === 0 &&
      this.reads.length === 0 &&
      this.wanted.length === 0 &&
      this.snapshot === null &&
      this.truncateAfter === null
    );
  }

  /** Hands everything out and is empty again. Empty lists are one shared array. */
  take(): {
    messages: readonly Message[];
    messagesAfterPersist: readonly Message[];
    reads: readonly ReadResult[];
    logReads: readonly LogRead[];
    snapshotsWanted: readonly NodeId[];
    snapshot: SnapshotInfo | null;
    keepSuffix: boolean;
    truncateAfter: Offset | null;
  } {
    if (this.appendResponse !== null) {
      this.postAppendResponse(this.appendResponse);
      this.appendResponse = null;
    }
    const taken = {
      messages: this.now.length > 0 ? this.now : NONE,
      messagesAfterPersist: this.afterPersist.length > 0 ? this.afterPersist : NONE,
      reads: this.readResults.length > 0 ? this.readResults : NONE,
      logReads: this.reads.length > 0 ? this.reads : NONE,
      snapshotsWanted: this.wanted.length > 0 ? this.wanted : NONE,
      snapshot: this.snapshot,
      keepSuffix: this.keepSuffix,
      truncateAfter: this.truncateAfter,
    };
    if (this.now.length > 0) this.now = [];
    if (this.afterPersist.length > 0) this.afterPersist = [];
    if (this.readResults.length > 0) this.readResults = [];
    if (this.reads.length > 0) this.reads = [];
    if (this.wanted.length > 0) this.wanted = [];
    this.snapshot = null;
    this.keepSuffix = false;
    this.truncateAfter = null;
    return taken;
  }
}
