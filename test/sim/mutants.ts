import type { ReplicaMutants } from '#replica';

/**
 * Defects that the simulator puts in to prove that it would find them. Where the switch is: in the library that would have the defect (an
 * option nobody else can set), in the simulated disk, or in the simulator's wiring.
 */
export const MUTANTS = {
  'ack-before-sync': { replica: { ackBeforeSync: true } },
  'no-noop-on-election': { replica: { raft: { noNoopOnElection: true } } },
  'term-and-vote-apart': { replica: { voteWrittenLater: true } },
  'truncate-on-any-checksum-error': { truncateOnAnyDamage: true },
  'expiry-on-local-clock': { localExpiry: true },
  'looks-back-in-the-archive-alone': { archiveAlone: true },
  'sessions-left-out-of-snapshots': { replica: { sessionsLeftOut: true } },
  'no-directory-sync': { disk: 'noDirectorySync' },
  'retry-after-failed-sync': { disk: 'hideSyncErrors' },
  'read-without-round': { replica: { readWithoutRound: true } },
  'promises-broken': { replica: { raft: { breaksPromises: true } } },
  /** No defect, but the assumption of leases does not hold. */
  'clocks-beyond-the-bound': {},
  'commit-by-counting-old-terms': { replica: { raft: { countsOldTerms: true } } },
} as const satisfies Record<string, Mutant>;

export interface Mutant {
  readonly replica?: ReplicaMutants;
  readonly truncateOnAnyDamage?: boolean;
  /** Views decide by their host's clock what has expired. */
  readonly localExpiry?: boolean;
  /** What has expired is not looked for in memory. */
  readonly archiveAlone?: boolean;
  readonly disk?: 'noDirectorySync' | 'hideSyncErrors';
}

export type MutantName = keyof typeof MUTANTS;

export const isMutantName = (name: string): name is MutantName => Object.hasOwn(MUTANTS, name);
