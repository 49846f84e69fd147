/** Randomness that can be had again: every random test prints its seed first, and SEAWALL_TEST_SEED sets it. */

export interface Random {
  readonly seed: number;
  /** In [0, 1). */
  next(): number;
  /** A whole number from `low` up to and including `high`. */
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  bytes(length: number): Uint8Array;
}

/** A generator for a test called `label`: prints its seed, which is `fixed`, or the environment's, or a new one. */
export function announcedRandom(label: string, fixed?: number): Random {
  const fromEnv = process.env["SEAWALL_TEST_SEED"];
  const seed = fixed ?? (fromEnv === undefined ? Math.trunc(Math.random() * 2 ** 32) : Number(fromEnv));
  console.log(`${label}: seed ${seed} (again with SEAWALL_TEST_SEED=${seed})`);
  return randomFrom(seed);
}

/** A Weyl sequence through a 32-bit mixer: small, fast, the same everywhere; for tests, not for secrets. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const word = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return (x ^ (x >>> 16)) >>> 0;
  };
  const next = () => word() / 2 ** 32;
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    seed,
    next,
    between,
    chance: (probability) => next() < probability,
    pick: (from) => {
      if (from.length === 0) throw new Error("nothing to pick from");
      // The index is in range, so the element is there.
      return from[between(0, from.length - 1)] as (typeof from)[number];
    },
    bytes: (length) => {
      const bytes = new Uint8Array(length);
      for (let i = 0; i < length; i++) bytes[i] = word() & 0xff;
      return bytes;
    },
  };
}
