import type { BatchMemory } from '#wire';

/** Less is not worth keeping: V8 makes and collects it cheaply. */
const KEPT_BYTES_MIN = 32 * 1024;
/** Of all that is kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Memory of batches that were answered, for the next ones. Large buffers are what V8 counts before it collects all of its heap; whoever writes
 * without end makes some hundred megabytes of them a second.
 *
 *     take ─► gathered, sent, answered ─► give ─┐
 *      ▲ └──────(never answered: left to V8)    │
 *      └────────────────────────────────────────┘
 */
export class ReusedMemory implements BatchMemory {
  /** The newest last: it may still be in the processor's cache. */
  private readonly kept: Buffer[] = [];
  private keptBytes = 0;

  take(bytes: number): Buffer {
    // Never of Node's pool: `give` takes the whole of what is under a batch, and others' bytes would be under it.
    if (bytes < KEPT_BYTES_MIN) return Buffer.allocUnsafeSlow(bytes);
    const at = this.kept.findLastIndex((memory) => memory.length >= bytes);
    // Of few sizes, so that the memory of one batch fits another.
    return at < 0 ? Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes))) : this.remove(at);
  }

  give(memory: Buffer): void {
    const whole = Buffer.from(memory.buffer);
    if (whole.length < KEPT_BYTES_MIN || whole.length > KEPT_BYTES_MAX) return;
    while (this.keptBytes + whole.length > KEPT_BYTES_MAX) this.remove(0);
    this.kept.push(whole);
    this.keptBytes += whole.length;
  }

  batchIn(memory: Buffer, length: number): Buffer {
    return memory.subarray(0, length);
  }

  private remove(at: number): Buffer {
    const [memory] = this.kept.splice(at, 1);
    this.keptBytes -= memory.length;
    return memory;
  }
}
