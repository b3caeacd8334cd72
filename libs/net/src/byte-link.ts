/** What a connection stands on: bytes in order, both ways, until it breaks. A socket, or its twin in memory. */
export interface ByteLink {
  readonly remoteAddress: string;
  /** Bytes taken by `send` and not yet handed to the kernel. */
  readonly pendingBytes: number;
  /** Takes the pieces by reference; nobody changes them before the other side has received them, if ever. */
  send(pieces: readonly Uint8Array[]): void;
  pauseReading(): void;
  resumeReading(): void;
  /** Sends what is left, then ends; reads on and throws away until the other side has ended too, for a moment at most. */
  end(): void;
  /** At once. */
  destroy(): void;
}

/** What a link tells the connection on it; never from within a call into the link. */
export interface ByteLinkEvents {
  data(chunk: Buffer): void;
  /** Where what comes next belongs; null: nowhere in particular. A link that can puts it there and says `filled`, any other gives it to `data`. */
  readonly room: Buffer | null;
  filled(count: number): void;
  /** Some of what was pending has been handed on; `waited`: only after the kernel had been full. Follows every `send`, until nothing is pending. */
  handedOn(waited: boolean): void;
  /** The other side ended, or the link broke. At most once; not after `end` or `destroy`. */
  closed(cause: Error | null): void;
}
