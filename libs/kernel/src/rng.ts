/** Source of randomness as a port: seeded in tests and simulation, so that a run can be repeated. */
export interface Rng {
  /** Uniform whole number in [0, 2^32). */
  nextU32(): number;
}

/** Uniform whole number in [0, below). */
export const randomBelow = (rng: Rng, below: number): number => Math.floor((rng.nextU32() / 0x1_0000_0000) * below);

export const randomChance = (rng: Rng, probability: number): boolean => rng.nextU32() < probability * 0x1_0000_0000;

/** xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32. Not for secrets. */
export class SeededRng implements Rng {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(seed: number) {
    let state = seed | 0;
    const split = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.a = split();
    this.b = split();
    this.c = split();
    this.d = split();
  }

  nextU32(): number {
    const x = Math.imul(this.b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result;
  }

  /** A generator of its own for a subsystem, so that one more draw here does not shift the draws there. */
  fork(): SeededRng {
    return new SeededRng(this.nextU32());
  }
}

/** For production, where runs need not repeat. Not for secrets. */
export const systemRng: Rng = { nextU32: () => Math.floor(Math.random() * 0x1_0000_0000) };
