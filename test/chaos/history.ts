import type { Operation, OperationInput, OperationOutput } from '../support/linearizability.js';

/** What clients did to the keys and what they were told, in the order in which they came back. */
export class History {
  private readonly byKey = new Map<string, Operation[]>();
  /** Values of writes that were refused: nobody may ever see one. */
  readonly refused = new Map<string, string>();
  operations = 0;

  add(operation: Operation): void {
    const list = this.byKey.get(operation.key);
    if (list) list.push(operation);
    else this.byKey.set(operation.key, [operation]);
    this.operations++;
  }

  get keys(): readonly string[] {
    return [...this.byKey.keys()];
  }

  of(key: string): readonly Operation[] {
    return this.byKey.get(key) ?? [];
  }

  /** For the checker; see `sharpened`. */
  sharpened(): Operation[] {
    return [...this.byKey.values()].flatMap(sharpened);
  }
}

const valueWritten = (input: OperationInput): string | null =>
  input.kind === 'put' || input.kind === 'put-if-absent' ? input.value : null;

/**
 * The same history with less left open, so that the search stays short; one is linearizable exactly if the other is. Rests on every value
 * being written by one operation only.
 *
 * - A write of unknown outcome whose value was read took effect before that read returned.
 * - A put of unknown outcome whose value nobody read may be left out, unless a failed put-if-absent could have met it: where it took effect
 *   nothing was read until the next write, so without it all the same is seen.
 */
export const sharpened = (operations: readonly Operation[]): Operation[] => {
  const readBy = new Map<string, number>();
  let lastFailedCondition = Number.NEGATIVE_INFINITY;
  for (const { output, returnedAt } of operations) {
    if (output.kind === 'value' && output.value !== null)
      readBy.set(output.value, Math.min(returnedAt, readBy.get(output.value) ?? Number.POSITIVE_INFINITY));
    if (output.kind === 'condition-failed') lastFailedCondition = Math.max(lastFailedCondition, returnedAt);
  }
  return operations.flatMap((operation) => {
    if (operation.output.kind !== 'unknown') return [operation];
    const value = valueWritten(operation.input);
    if (value === null) return operation.input.kind === 'get' ? [] : [operation];
    const seenAt = readBy.get(value);
    const done: OperationOutput = { kind: 'done' };
    if (seenAt !== undefined) return [{ ...operation, output: done, returnedAt: seenAt }];
    return lastFailedCondition < operation.invokedAt ? [] : [operation];
  });
};
