/** Thrown when something that must never be false is: a defect, never a condition to handle. */
export class AssertionFailure extends Error {
  constructor(message: string) {
    super(`assertion failed: ${message}`);
    this.name = 'AssertionFailure';
  }
}

/** Stays on in production. Keep the message constant or cheap: it is built on every call. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

export function unreachable(value: never): never {
  throw new AssertionFailure(`unexpected value ${String(value)}`);
}
