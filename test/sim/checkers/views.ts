import { asLogTime, randomBelow, randomChance, type GroupId, type Rng } from '#kernel';
import { MapView, type Entry, type ViewPartitionStats } from '#views';
import { ModelView } from '../../../libs/views/src/testing/index.js';
import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry } from '../shadow-log.js';
import { must } from '../violation.js';

const RESULTS_KEPT = 100_000;

/**
 * 17: equal digests at equal offsets on all hosts · 18: a view is the fold of the log, told by a view of this checker's own (that is frozen and
 * restored now and then: snapshot and suffix are as good as a full replay) and by an independent, plain model · 25: applying never throws.
 */
export class ViewsChecker implements Checker {
  compared = 0;
  restored = 0;
  private fold = new MapView({ resultsMax: RESULTS_KEPT });
  private readonly model = new ModelView();
  private readonly digests = new Map<number, string>();

  constructor(
    private readonly group: GroupId,
    private readonly rng: Rng,
  ) {}

  committed = (record: GroupRecord, entry: ShadowEntry): void => {
    if (record.id !== this.group) return;
    const bytes = Buffer.from(entry.bytes!);
    try {
      this.fold.applyBatches(bytes);
    } catch (error) {
      must(false, 25, `applying offset ${entry.firstOffset} throws: ${String(error)}`);
    }
    this.model.applyBatches(bytes);
    this.digests.set(entry.lastOffset, this.fold.digest);
    if (randomChance(this.rng, 0.01)) this.fold.expire({ until: this.fold.logTime, max: randomBelow(this.rng, 20) });
    if (randomChance(this.rng, 0.005)) this.restore();
  };

  private restore(): void {
    const pieces: Buffer[] = [];
    for (const piece of this.fold.freeze()) pieces.push(Buffer.from(piece));
    const { digest, offset } = this.fold;
    this.fold = MapView.restore(pieces, { resultsMax: RESULTS_KEPT });
    this.restored++;
    must(this.fold.digest === digest && this.fold.offset === offset, 18, 'a restored snapshot is not what was frozen');
  }

  /** What a host says of itself. */
  host(node: number, stats: ViewPartitionStats): void {
    if (stats.offset === 0) return;
    const digest = this.digests.get(stats.offset);
    this.compared++;
    must(
      digest !== undefined,
      20,
      () => `the view on node ${node} is at offset ${stats.offset}, which is not committed`,
    );
    must(
      digest === stats.digest,
      17,
      () => `the view on node ${node} has digest ${stats.digest} at offset ${stats.offset}, the log makes ${digest}`,
    );
  }

  /** All entries of a host that has applied everything. */
  entries(node: number, entries: readonly Entry[]): void {
    const expected = this.model.scan({
      prefix: Buffer.alloc(0),
      after: null,
      limit: Number.MAX_SAFE_INTEGER,
      bytesMax: Number.MAX_SAFE_INTEGER,
      values: true,
      time: asLogTime(this.model.logTime),
    }).entries;
    const text = (entry: Entry): string =>
      `${entry.key.toString('latin1')}=${entry.value.toString('latin1')}@${entry.offset}/${entry.expiresAt}`;
    must(
      entries.length === expected.length && entries.every((entry, i) => text(entry) === text(expected[i])),
      18,
      () => `the view on node ${node} has ${entries.length} entries that are not the model's ${expected.length}`,
    );
  }

  get offset(): number {
    return this.model.offset;
  }
}
