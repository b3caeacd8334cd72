import { checkLinearizability, type Operation } from '../../support/linearizability.js';
import { must } from '../violation.js';

const STEPS_MAX = 2_000_000;

/** 19: what the clients saw, through whatever gateway, is linearizable key by key. A search that is given up is not a pass. */
export class LinearizabilityChecker {
  readonly operations: Operation[] = [];

  add(operation: Operation): void {
    this.operations.push(operation);
  }

  end(): void {
    const verdict = checkLinearizability(this.operations, STEPS_MAX);
    must(verdict.verdict === 'linearizable', 19, () =>
      verdict.verdict === 'illegal'
        ? `no order of the operations on key ${verdict.key} explains what was seen:\n${verdict.operations
            .map(
              (o) =>
                `    client ${o.client} ${o.invokedAt.toFixed(3)} … ${o.returnedAt.toFixed(3)} ${JSON.stringify(o.input)} → ${JSON.stringify(o.output)}`,
            )
            .join('\n')}`
        : `the search for an order of the operations on key ${verdict.verdict === 'undecided' ? verdict.key : ''} was given up`,
    );
  }
}
