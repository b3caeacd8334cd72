/** Notable events that a failure prints. */
const KEPT = 400;

/** What happened, as a number: two runs with the same hash did the same things in the same order. And the last notable events in words. */
export class Trace {
  private a = 0x811c9dc5;
  private b = 0x9e3779b9;
  private readonly notes: string[] = [];
  private next = 0;

  constructor(private readonly now: () => number) {}

  mix(value: number): void {
    this.a = Math.imul(this.a ^ value, 0x01000193);
    this.b = Math.imul((this.b ^ value) + 0x7f4a7c15, 0x85ebca6b) ^ (this.b >>> 13);
  }

  note(text: string): void {
    for (let i = 0; i < text.length; i++) this.mix(text.charCodeAt(i));
    const line = `${(this.now() / 1000).toFixed(4).padStart(10)} s  ${text}`;
    if (this.notes.length < KEPT) this.notes.push(line);
    else {
      this.notes[this.next] = line;
      this.next = (this.next + 1) % KEPT;
    }
  }

  get hash(): string {
    return hex(this.a) + hex(this.b);
  }

  last(count: number): string[] {
    const ordered = [...this.notes.slice(this.next), ...this.notes.slice(0, this.next)];
    return ordered.slice(-count);
  }
}

const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
