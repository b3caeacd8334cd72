import { asLogTime, randomBelow, randomChance, type Rng } from '#kernel';
import { restoreMapView, type Entry } from '#views';
import { ModelOfTypes, TYPED_PREFIX } from '../model-of-types.js';
import type { Checker, GroupRecord } from '../observer.js';
import { ReferenceView } from '../reference-view.js';
import { must } from '../violation.js';

/**
 * 18: a view is the fold of the log, as plain models have it; and snapshot and suffix are as good as a full replay: the reference is frozen and
 * restored now and then.
 */
export class ViewIsFoldChecker implements Checker {
  restored = 0;
  private readonly answers: { readonly group: number; readonly offset: number; readonly result: string }[] = [];

  constructor(
    private readonly references: ReadonlyMap<number, ReferenceView>,
    private readonly rng: Rng,
  ) {}

  committed = (record: GroupRecord): void => {
    const reference = this.references.get(record.id);
    if (reference === undefined) return;
    const { fold } = reference;
    if (randomChance(this.rng, 0.01)) fold.expire({ until: fold.logTime, max: randomBelow(this.rng, 20) });
    if (randomChance(this.rng, 0.005)) this.restore(reference);
  };

  private restore(reference: ReferenceView): void {
    const pieces: Buffer[] = [];
    for (const piece of reference.fold.freeze()) pieces.push(Buffer.from(piece));
    const { digest, offset } = reference.fold;
    reference.fold = restoreMapView(pieces, ReferenceView.options);
    this.restored++;
    must(
      reference.fold.digest === digest && reference.fold.offset === offset,
      18,
      'a restored snapshot is not what was frozen',
    );
  }

  /** What a command was answered. It is looked at in the end: a client may hear of a commit before the observer does, from a leader that died of it. */
  answered(group: number, offset: number, result: string): void {
    this.answers.push({ group, offset, result });
  }

  end(): void {
    for (const { group, offset, result } of this.answers) {
      const expected = this.references.get(group)?.types.results.get(offset);
      must(
        expected === result,
        18,
        () => `the command at ${offset} of group ${group} was answered with ${result}, the model says ${expected}`,
      );
    }
  }

  /** All entries of a host that has applied everything. */
  entries(node: number, { model, types, partition }: ReferenceView, entries: readonly Entry[]): void {
    const expected = model.scan({
      prefix: Buffer.alloc(0),
      after: null,
      limit: Number.MAX_SAFE_INTEGER,
      bytesMax: Number.MAX_SAFE_INTEGER,
      values: true,
      time: asLogTime(model.logTime),
    }).entries;
    const text = (entry: Entry): string =>
      `${entry.key.toString('latin1')}=${entry.value.toString('latin1')}@${entry.offset}/${entry.expiresAt}`;
    const isTyped = (entry: Entry): boolean => entry.key.toString('latin1').startsWith(TYPED_PREFIX);
    const plain = entries.filter((entry) => !isTyped(entry));
    must(
      plain.length === expected.length && plain.every((entry, i) => text(entry) === text(expected[i])),
      18,
      () => `the view on node ${node} has ${plain.length} entries that are not the model's ${expected.length}`,
    );
    const typed = types.texts();
    must(
      entries.length - plain.length === typed.size &&
        entries.every(
          (entry) => !isTyped(entry) || ModelOfTypes.textOf(entry) === typed.get(entry.key.toString('latin1')),
        ),
      18,
      () =>
        `the view of partition ${partition} on node ${node} holds other counters, hashes, sets or lists than the model`,
    );
  }
}
