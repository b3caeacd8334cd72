/**
 * A linearizability checker: Wing and Gong's search (1993) with Lowe's memory of configurations seen (2017), on one key at a time —
 * linearizability is local, so a history is linearizable if and only if each key's part of it is.
 *
 * An operation whose outcome the client never learned may take effect at any time after it was invoked, or never.
 */
export type OperationInput =
  | { readonly kind: 'get' }
  | { readonly kind: 'put'; readonly value: string }
  | { readonly kind: 'delete' }
  | { readonly kind: 'put-if-absent'; readonly value: string };

export type OperationOutput =
  | { readonly kind: 'value'; readonly value: string | null }
  | { readonly kind: 'done' }
  | { readonly kind: 'condition-failed' }
  /** The client does not know: a timeout, a lost connection. */
  | { readonly kind: 'unknown' };

export interface Operation {
  readonly key: string;
  readonly client: number;
  readonly input: OperationInput;
  readonly output: OperationOutput;
  /** Any clock that all clients share; an operation precedes another if it returned before the other was invoked. */
  readonly invokedAt: number;
  /** Infinity for an unknown outcome. */
  readonly returnedAt: number;
}

export type Verdict =
  | { readonly verdict: 'linearizable'; readonly operations: number }
  | { readonly verdict: 'illegal'; readonly key: string; readonly operations: readonly Operation[] }
  /** The search was given up: not a pass. */
  | { readonly verdict: 'undecided'; readonly key: string; readonly operations: number };

type State = string | null;

/** The state after the operation, or undefined when the operation's output is impossible in `state`. */
const apply = (state: State, { input, output }: Operation): State | undefined => {
  switch (input.kind) {
    case 'get':
      return output.kind === 'value' && output.value !== state ? undefined : state;
    case 'put':
      return input.value;
    case 'delete':
      return null;
    case 'put-if-absent':
      if (output.kind === 'done') return state === null ? input.value : undefined;
      if (output.kind === 'condition-failed') return state === null ? undefined : state;
      return state === null ? input.value : state;
  }
};

/** A doubly linked list of calls and returns in time order; a linearized operation is lifted out and put back on backtracking. */
interface Node {
  readonly operation: number;
  readonly isCall: boolean;
  /** Of a call: its return; null for an unknown outcome. */
  match: Node | null;
  prev: Node | null;
  next: Node | null;
}

const buildList = (operations: readonly Operation[]): Node => {
  const events: { time: number; node: Node }[] = [];
  for (const [i, operation] of operations.entries()) {
    const call: Node = { operation: i, isCall: true, match: null, prev: null, next: null };
    events.push({ time: operation.invokedAt, node: call });
    if (operation.returnedAt !== Number.POSITIVE_INFINITY) {
      const back: Node = { operation: i, isCall: false, match: call, prev: null, next: null };
      call.match = back;
      events.push({ time: operation.returnedAt, node: back });
    }
  }
  // At equal times a call goes before a return: the operations overlap.
  events.sort((a, b) => a.time - b.time || Number(b.node.isCall) - Number(a.node.isCall));
  const head: Node = { operation: -1, isCall: true, match: null, prev: null, next: null };
  let last = head;
  for (const { node } of events) {
    last.next = node;
    node.prev = last;
    last = node;
  }
  return head;
};

const lift = (call: Node): void => {
  unlink(call);
  if (call.match) unlink(call.match);
};

const unlink = (node: Node): void => {
  node.prev!.next = node.next;
  if (node.next) node.next.prev = node.prev;
};

const unlift = (call: Node): void => {
  if (call.match) relink(call.match);
  relink(call);
};

const relink = (node: Node): void => {
  node.prev!.next = node;
  if (node.next) node.next.prev = node;
};

/** Checks the operations of one key that starts absent. `stepsMax` bounds the search. */
export const checkKey = (
  operations: readonly Operation[],
  stepsMax: number,
): 'linearizable' | 'illegal' | 'undecided' => {
  // A read whose outcome nobody saw says nothing.
  const relevant = operations.filter(({ input, output }) => !(input.kind === 'get' && output.kind === 'unknown'));
  const head = buildList(relevant);
  const done = new Uint8Array(relevant.length);
  let certain = relevant.filter((operation) => operation.returnedAt !== Number.POSITIVE_INFINITY).length;
  const seen = new Set<string>();
  const stack: { call: Node; before: State }[] = [];
  let state: State = null;
  let node = head.next;
  for (let steps = 0; certain > 0; steps++) {
    if (steps >= stepsMax) return 'undecided';
    if (node !== null && node.isCall) {
      const after = apply(state, relevant[node.operation]);
      if (after !== undefined) {
        done[node.operation] = 1;
        const configuration = `${Buffer.from(done.buffer).toString('latin1')}|${after === null ? '' : `=${after}`}`;
        if (!seen.has(configuration)) {
          seen.add(configuration);
          stack.push({ call: node, before: state });
          state = after;
          if (node.match) certain--;
          lift(node);
          node = head.next;
          continue;
        }
        done[node.operation] = 0;
      }
      node = node.next;
      continue;
    }
    // A return of an operation not yet linearized (or the end): go back and try the next candidate there.
    const back = stack.pop();
    if (!back) return 'illegal';
    state = back.before;
    done[back.call.operation] = 0;
    if (back.call.match) certain++;
    unlift(back.call);
    node = back.call.next;
  }
  return 'linearizable';
};

const STEPS_MAX = 5_000_000;

/** Smallest keys first: the cheapest proof of a violation is found soonest. */
export const checkLinearizability = (history: readonly Operation[], stepsMax = STEPS_MAX): Verdict => {
  const byKey = new Map<string, Operation[]>();
  for (const operation of history) {
    const list = byKey.get(operation.key);
    if (list) list.push(operation);
    else byKey.set(operation.key, [operation]);
  }
  const keys = [...byKey.entries()].sort((a, b) => a[1].length - b[1].length);
  for (const [key, operations] of keys) {
    const verdict = checkKey(operations, stepsMax);
    if (verdict === 'illegal') return { verdict, key, operations };
    if (verdict === 'undecided') return { verdict, key, operations: operations.length };
  }
  return { verdict: 'linearizable', operations: history.length };
};
