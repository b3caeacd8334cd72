import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ByteReader, ByteWriter, asGroupId, asLogTime, asOffset, asTerm } from '#kernel';
import { ControlKind, encodeBatch, encodeControlBatch, idempotencySession, stampBatch } from '#wire';
import { SessionTable, type SessionLimits } from './session-table.js';

const LIMITS: SessionLimits = {
  sessionsMax: 3,
  idempotencyKeysMax: 3,
  sessionIdleMsMax: 100,
  idempotencyKeyMsMax: 150,
};

/** One batch of a log: what it does, and by how much log time rises before it. */
interface Step {
  readonly kind: 'open' | 'batch' | 'key' | 'plain';
  readonly who: number;
  readonly wait: number;
}

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom('open', 'batch', 'batch', 'batch', 'key', 'plain'),
    who: fc.nat(5),
    wait: fc.oneof({ weight: 5, arbitrary: fc.nat(5) }, { weight: 1, arbitrary: fc.nat(200) }),
  }) as fc.Arbitrary<Step>,
  { maxLength: 60 },
);

/** Plays a leader: what its table lets through becomes the log. */
class Leader {
  readonly log: { header: Buffer; controlKind: number }[] = [];
  readonly opened: number[] = [];
  private readonly last = new Map<number, number>();
  private time = 1000;

  constructor(readonly table: SessionTable) {}

  play({ kind, who, wait }: Step): void {
    this.time += wait;
    const offset = this.log.length + 1;
    let batch: Buffer;
    if (kind === 'open') batch = encodeControlBatch(ControlKind.OpenSession, Buffer.alloc(0), 0);
    else if (kind === 'plain') batch = encodeBatch([{ value: Buffer.from('x') }], { createTime: 0 });
    else if (kind === 'key') {
      batch = encodeBatch([{ value: Buffer.from(`${who}`) }], {
        createTime: 0,
        session: idempotencySession(`key ${who}`),
      });
    } else {
      const id = this.opened[who % Math.max(1, this.opened.length)] ?? 999;
      const sequence = (this.last.get(id) ?? 0) + 1;
      batch = encodeBatch([{ value: Buffer.from('x') }], { createTime: 0, session: { low: id, high: 0, sequence } });
      if (this.table.check(batch, asLogTime(this.time)).kind === 'append') this.last.set(id, sequence);
    }
    if (this.table.check(batch, asLogTime(this.time)).kind !== 'append') return;
    if (kind === 'open') this.opened.push(offset);
    stampBatch(batch, {
      firstOffset: asOffset(offset),
      term: asTerm(1),
      logTime: asLogTime(this.time),
      group: asGroupId(1),
    });
    const controlKind = kind === 'open' ? ControlKind.OpenSession : 0;
    this.log.push({ header: batch, controlKind });
    this.table.apply(batch, controlKind, true);
  }
}

const bytesOf = (table: SessionTable): string => {
  const writer = new ByteWriter();
  table.encode(writer);
  return writer.finish().toString('hex');
};

const foldOf = (
  log: readonly { header: Buffer; controlKind: number }[],
  table = new SessionTable(LIMITS),
): SessionTable => {
  for (const { header, controlKind } of log) table.apply(header, controlKind, false);
  return table;
};

describe('the session table', () => {
  test('is the same for everybody who has the same log', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const leader = new Leader(new SessionTable(LIMITS));
        for (const step of all) leader.play(step);
        expect(bytesOf(leader.table)).toBe(bytesOf(foldOf(leader.log)));
      }),
    );
  });

  test('cut anywhere above the commit is what it would be had the rest never been', () => {
    fc.assert(
      fc.property(steps, fc.nat(60), fc.nat(60), (all, a, b) => {
        const leader = new Leader(new SessionTable(LIMITS));
        for (const step of all) leader.play(step);
        const cut = Math.min(Math.max(a, b), leader.log.length);
        leader.table.commit(asOffset(Math.min(a, b)));
        leader.table.truncateAfter(asOffset(cut));
        expect(bytesOf(leader.table)).toBe(bytesOf(foldOf(leader.log.slice(0, cut))));
      }),
    );
  });

  test('goes on from a serialised state as it would have without', () => {
    fc.assert(
      fc.property(steps, fc.nat(60), (all, at) => {
        const leader = new Leader(new SessionTable(LIMITS));
        for (const step of all) leader.play(step);
        const cut = Math.min(at, leader.log.length);
        const bytes = Buffer.from(bytesOf(foldOf(leader.log.slice(0, cut))), 'hex');
        const restored = SessionTable.decode(new ByteReader(bytes), LIMITS);
        expect(bytesOf(foldOf(leader.log.slice(cut), restored))).toBe(bytesOf(leader.table));
      }),
    );
  });

  test('never holds more than its limits', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const leader = new Leader(new SessionTable(LIMITS));
        for (const step of all) {
          leader.play(step);
          expect(leader.table.sessionCount).toBeLessThanOrEqual(LIMITS.sessionsMax);
          expect(leader.table.idempotencyKeyCount).toBeLessThanOrEqual(LIMITS.idempotencyKeysMax);
        }
      }),
    );
  });

  test('does not read what is not a table', () => {
    expect(() => SessionTable.decode(new ByteReader(Buffer.from([7])))).toThrow('version 7');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          SessionTable.decode(new ByteReader(Buffer.from(bytes)));
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/malformed-frame|unsupported-version/);
        }
      }),
    );
  });
});
