import { must } from '../violation.js';

/**
 * 24: an entry that a linearizable read did not see because it had expired is not seen by any later one. For keys that are written once: present
 * until the moment it expires, absent ever after, whichever gateway is asked.
 */
export class ExpiryChecker {
  absences = 0;
  /** When the first read that found the key gone after it had been there came back. */
  private readonly goneSince = new Map<string, number>();
  /** Since when the key is known to have been written. */
  private readonly seen = new Map<string, number>();

  /** The write was acknowledged: from now on the key is there or has expired. */
  written(key: string, at: number): void {
    if (!this.seen.has(key)) this.seen.set(key, at);
  }

  read(key: string, found: boolean, invokedAt: number, returnedAt: number): void {
    const gone = this.goneSince.get(key);
    if (found) {
      must(
        gone === undefined || gone >= invokedAt,
        24,
        () =>
          `key ${key} had expired at ${gone?.toFixed(3)} ms and is back for a read begun at ${invokedAt.toFixed(3)} ms`,
      );
      this.written(key, returnedAt);
    } else if ((this.seen.get(key) ?? Number.POSITIVE_INFINITY) < invokedAt) {
      this.absences++;
      if (gone === undefined || returnedAt < gone) this.goneSince.set(key, returnedAt);
    }
  }
}
