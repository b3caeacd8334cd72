/** An invariant does not hold. `invariant` is its number in docs/correctness.md. */
export class Violation extends Error {
  constructor(
    readonly invariant: number,
    message: string,
  ) {
    super(message);
    this.name = 'Violation';
  }
}

/** The first one of the run: thrown within a promise it would end as an answer to somebody who asked something else. */
let found: Violation | null = null;

export function must(condition: boolean, invariant: number, message: string | (() => string)): asserts condition {
  if (condition) return;
  const violation = new Violation(invariant, typeof message === 'string' ? message : message());
  found ??= violation;
  throw violation;
}

/** Throws what was found since the run began, whoever has swallowed it. */
export const rethrowViolation = (): void => {
  if (found !== null) throw found;
};

export const forgetViolations = (): void => {
  found = null;
};
