import type { EntryRead } from '../../../apps/gateway/src/read-path.js';
import { must } from '../violation.js';

/**
 * 29: an entry of a view with an archive that was acknowledged, and that nobody overwrites or deletes, is live or has departed: a read that looks back finds
 * it at any time, through any gateway, whatever becomes of the archive. And it finds what was written.
 */
export class DepartedEntriesChecker {
  /** Looks that found what had gone: on its way to the archive, or in it. */
  waiting = 0;
  archived = 0;
  private readonly written = new Map<string, { readonly value: string; readonly at: number }>();

  /** The write was acknowledged. */
  wrote(key: string, value: string, at: number): void {
    this.written.set(key, { value, at });
  }

  /** All that were, in the end. */
  keys(): Iterable<string> {
    return this.written.keys();
  }

  /** `who`: for the message. */
  looked(
    key: string,
    { entry, departed = null }: Pick<EntryRead, 'entry' | 'departed'>,
    invokedAt: number,
    who: string,
  ): void {
    must(entry === null || departed === null, 29, () => `${who} finds key ${key} live and departed`);
    const written = this.written.get(key);
    if (written === undefined || written.at >= invokedAt) return;
    const found = entry ?? departed;
    must(
      found !== null,
      29,
      () => `${who} finds key ${key} nowhere at ${invokedAt.toFixed(3)} ms, written at ${written.at.toFixed(3)} ms`,
    );
    must(
      found!.value.toString('latin1') === written.value,
      29,
      () => `${who} finds key ${key} with what was not written under it`,
    );
    if (departed === null) return;
    if (departed.archivedAt === null) this.waiting++;
    else this.archived++;
  }
}
