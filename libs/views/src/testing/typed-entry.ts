import { asOffset } from '#kernel';
import { encodeOp } from '#wire';
import { CommandTable, type DataType } from '../data-type.js';
import { MapView } from '../map-view.js';
import type { ApplyResult, Entry } from '../view-query.js';
import { BatchSource } from './batch-source.js';

export type Argument = string | number | Uint8Array;

const argumentBytes = (argument: Argument): Buffer =>
  typeof argument === 'object' ? Buffer.from(argument) : Buffer.from(String(argument));

/** One key of a view with some data types, to try commands on. */
export class TypedEntry {
  readonly source = new BatchSource();
  readonly view: MapView;
  readonly key = Buffer.from('k');
  private readonly table: CommandTable;

  constructor(readonly dataTypes: readonly DataType[]) {
    this.view = new MapView({ dataTypes });
    this.table = new CommandTable(dataTypes);
  }

  /** Appended as a record of its own, and applied. */
  apply(name: string, args: readonly Argument[] = [], ttlMs?: number): ApplyResult {
    const offset = asOffset(this.source.nextOffset);
    const op = encodeOp(name, args.map(argumentBytes));
    this.view.applyBatches(this.source.records([{ key: this.key, op, ...(ttlMs === undefined ? {} : { ttlMs }) }]));
    return this.view.results({ firstOffset: offset, lastOffset: offset })[0];
  }

  /** The command's result; the code if it had no effect. */
  run(name: string, ...args: readonly Argument[]): unknown {
    const { ok, code, value } = this.apply(name, args);
    if (!ok) return code;
    return value === '' ? undefined : JSON.parse(value);
  }

  /** What a gateway would say before it appends. */
  problem(name: string, ...args: readonly Argument[]): string | null {
    return this.table.check(name, args.map(argumentBytes), { key: this.key, value: null })?.code ?? null;
  }

  put(value: string, contentType?: string): void {
    const headers = contentType === undefined ? [] : [{ name: 'content-type', value: Buffer.from(contentType) }];
    this.view.applyBatches(this.source.records([{ key: this.key, value: Buffer.from(value), headers }]));
  }

  get entry(): Entry | null {
    return this.view.get(this.key, this.view.logTime);
  }
}
