import { isTidelineError } from '#kernel';

/** 0 done · 1 failed · 2 usage · 3 outcome unknown (a write may still take effect). */
export const ExitCode = { Done: 0, Failed: 1, Usage: 2, OutcomeUnknown: 3 } as const;

/** Thrown for arguments that make no sense. */
export class UsageError extends Error {}

export const exitCodeOf = (error: unknown, write: boolean): number => {
  if (error instanceof UsageError) return ExitCode.Usage;
  if (isTidelineError(error)) {
    if (error.code === 'bad-option') return ExitCode.Usage;
    if (write && error.outcome === 'unknown') return ExitCode.OutcomeUnknown;
  }
  return ExitCode.Failed;
};
