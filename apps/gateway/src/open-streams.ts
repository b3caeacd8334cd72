import { TidelineError } from '#kernel';

/** The tails and watches open on this gateway, of all protocols: counted, limited, and ended together when it stops. */
export class OpenStreams {
  private readonly ends = new Set<(error: TidelineError) => void>();
  private closing = false;

  constructor(private readonly streamsMax: number) {}

  get count(): number {
    return this.ends.size;
  }

  /**
   * Registers a stream by how to end it. Returns how to take it back.
   * @throws TidelineError `overloaded` · `shutting-down`
   */
  add(end: (error: TidelineError) => void): () => void {
    if (this.closing) throw new TidelineError('shutting-down', 'the gateway is stopping');
    if (this.ends.size >= this.streamsMax) {
      throw new TidelineError('overloaded', `${this.streamsMax} tails and watches are open already`, {
        details: { limit: this.streamsMax },
      });
    }
    this.ends.add(end);
    return () => this.ends.delete(end);
  }

  close(): void {
    this.closing = true;
    for (const end of this.ends) end(new TidelineError('shutting-down', 'the gateway is stopping'));
    this.ends.clear();
  }
}
