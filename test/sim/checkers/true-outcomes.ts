import { must } from '../violation.js';
import type { WriteLedger } from '../write-ledger.js';

/** 22: a rejected write is nowhere, and an acknowledged one is there. */
export class TrueOutcomesChecker {
  constructor(private readonly ledger: WriteLedger) {}

  end(): void {
    for (const write of this.ledger.writes) {
      const places = this.ledger.placesOf(write);
      const shown = `${write.topic}: ${write.value.slice(0, 60)}`;
      if (write.fate === 'rejected') {
        must(places.length === 0, 22, () => `the rejected ${shown} stands at ${places.join(', ')}`);
      }
      if (write.fate === 'acknowledged')
        must(places.length > 0, 22, () => `the acknowledged ${shown} is not in the log`);
    }
  }
}
