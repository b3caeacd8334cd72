import { GET_KEYS_MAX, toTidelineError, type Scheduler } from '#kernel';
import type { FoundEntryMessage } from '#wire';
import type { AppendTarget } from './append-port.js';
import { ViewEntry } from './values.js';

/** Reads that wait for each other: what they need is known from where they are asked. */
export type JointConsistency = 'linearizable' | 'session' | 'stale';

const CONSISTENCIES: readonly JointConsistency[] = ['linearizable', 'session', 'stale'];

export interface JointGetsOptions {
  readonly scheduler: Scheduler;
  /** One request for keys of one partition, 2 … GET_KEYS_MAX. Of each what is there, null for nothing, undefined if it is not answered. */
  readonly together: (
    target: AppendTarget,
    keys: readonly Buffer[],
    consistency: JointConsistency,
  ) => Promise<readonly (FoundEntryMessage | null | undefined)[]>;
  readonly alone: (target: AppendTarget, key: Buffer, consistency: JointConsistency) => Promise<ViewEntry | null>;
}

interface Waiting {
  readonly key: Buffer;
  readonly resolve: (entry: ViewEntry | null | Promise<ViewEntry | null>) => void;
  readonly reject: (error: Error) => void;
}

interface Gathering {
  readonly target: AppendTarget;
  readonly consistency: JointConsistency;
  waiting: Waiting[];
}

/**
 * Gets of one turn of the event loop that want the same of the same partition go out as one request, with one barrier and one answer. A get that
 * finds itself alone goes as it is; so does one that was not answered with the others.
 */
export class JointGets {
  /** By view, then partition and consistency. */
  private readonly gatherings = new Map<string, (Gathering | undefined)[]>();
  private begun: Gathering[] = [];

  constructor(private readonly options: JointGetsOptions) {}

  /** The key is not copied. */
  get(target: AppendTarget, key: Buffer, consistency: JointConsistency): Promise<ViewEntry | null> {
    const gathering = this.gathering(target, consistency);
    return new Promise((resolve, reject) => {
      if (gathering.waiting.length === 0) this.begin(gathering);
      gathering.waiting.push({ key, resolve, reject });
    });
  }

  private gathering(target: AppendTarget, consistency: JointConsistency): Gathering {
    let ofView = this.gatherings.get(target.topic);
    if (ofView === undefined) this.gatherings.set(target.topic, (ofView = []));
    const at = target.partition * CONSISTENCIES.length + CONSISTENCIES.indexOf(consistency);
    return (ofView[at] ??= { target, consistency, waiting: [] });
  }

  private begin(gathering: Gathering): void {
    this.begun.push(gathering);
    if (this.begun.length === 1) this.options.scheduler.defer(this.send);
  }

  private readonly send = (): void => {
    const { begun } = this;
    this.begun = [];
    for (const gathering of begun) {
      const { waiting } = gathering;
      gathering.waiting = [];
      for (let first = 0; first < waiting.length; first += GET_KEYS_MAX) {
        const part = waiting.length <= GET_KEYS_MAX ? waiting : waiting.slice(first, first + GET_KEYS_MAX);
        if (part.length === 1) this.askAlone(gathering, part[0]);
        else this.askTogether(gathering, part);
      }
    }
  };

  private askAlone({ target, consistency }: Gathering, { key, resolve }: Waiting): void {
    resolve(this.options.alone(target, key, consistency));
  }

  private askTogether(gathering: Gathering, waiting: readonly Waiting[]): void {
    const { target, consistency } = gathering;
    const keys = waiting.map(({ key }) => key);
    this.options.together(target, keys, consistency).then(
      (found) => {
        for (const [at, each] of waiting.entries()) {
          const entry = found[at];
          if (entry === undefined) this.askAlone(gathering, each);
          else each.resolve(entry === null ? null : new ViewEntry(entry, each.key));
        }
      },
      (thrown: unknown) => {
        const error = toTidelineError(thrown);
        for (const { reject } of waiting) reject(error);
      },
    );
  }
}
