import { assert } from '#kernel';

/** Direct writes are whole blocks of this size at multiples of it, from memory at multiples of it: what every disk and file system that takes them accepts. */
export const DIRECT_BLOCK_BYTES = 4096;

export interface StagingSizes {
  readonly smallBytes: number;
  readonly small: number;
  readonly largeBytes: number;
  readonly large: number;
  readonly zeroBytes: number;
}

/** No more than libuv's pool has threads are written from at once; memory that was never needed takes none. */
const SIZES: StagingSizes = {
  smallBytes: 64 * 1024,
  small: 32,
  largeBytes: 2 * 1024 * 1024,
  large: 8,
  zeroBytes: 256 * 1024,
};

/** One size of pieces; who finds none waits for the next that comes back. */
interface Shelf {
  readonly bytes: number;
  readonly free: Buffer[];
  readonly waiting: ((memory: Buffer) => void)[];
}

/**
 * Memory that direct writes are made from, shared by all logs of a process. At most one write per log is in flight, so the waiting are bounded by
 * the number of logs.
 */
export class StagingMemory {
  /** Nobody writes here. */
  readonly zeros: Buffer;
  private readonly small: Shelf;
  private readonly large: Shelf;

  /** `allocate` gives memory at a multiple of DIRECT_BLOCK_BYTES. */
  constructor(
    allocate: (bytes: number) => ArrayBuffer,
    { smallBytes, small, largeBytes, large, zeroBytes }: StagingSizes = SIZES,
  ) {
    const memory = allocate(zeroBytes + small * smallBytes + large * largeBytes);
    let at = 0;
    const next = (bytes: number): Buffer => {
      assert(bytes > 0 && bytes % DIRECT_BLOCK_BYTES === 0, 'staging memory is whole blocks');
      at += bytes;
      return Buffer.from(memory, at - bytes, bytes);
    };
    const shelf = (bytes: number, count: number): Shelf => ({
      bytes,
      free: Array.from({ length: count }, () => next(bytes)),
      waiting: [],
    });
    this.zeros = next(zeroBytes);
    this.small = shelf(smallBytes, small);
    this.large = shelf(largeBytes, large);
  }

  /** Lends memory for `bytes`, or the largest piece there is; calls back at once when there is some, else when some was given back. */
  take(bytes: number, use: (memory: Buffer) => void): void {
    const { free, waiting } = bytes <= this.small.bytes ? this.small : this.large;
    const memory = free.pop();
    if (memory) use(memory);
    else waiting.push(use);
  }

  /** As `take`, but null when there is none at the moment. */
  takeNow(bytes: number): Buffer | null {
    return (bytes <= this.small.bytes ? this.small : this.large).free.pop() ?? null;
  }

  give(memory: Buffer): void {
    const { free, waiting } = memory.length === this.small.bytes ? this.small : this.large;
    const next = waiting.shift();
    if (next) next(memory);
    else free.push(memory);
  }
}

interface PageAlignedMemory {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
}

const WASM_PAGE_BYTES = 64 * 1024;

/**
 * Memory at the start of a page, without native code: that of a WebAssembly instance. It is backed when it is touched; V8 reserves some gigabytes of
 * addresses behind it, once.
 * @throws RangeError when there are no addresses for it (`ulimit -v`)
 */
export const pageAlignedMemory = (bytes: number): ArrayBuffer => {
  const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: PageAlignedMemory };
  return new WebAssembly.Memory({ initial: Math.ceil(bytes / WASM_PAGE_BYTES) }).buffer;
};
