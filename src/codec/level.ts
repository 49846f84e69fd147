/**
 * Chooses zstd's level for each object. With "auto" WAL that comes faster than one thread compresses it is compressed in less time, and
 * WAL that comes to an idle machine in less space.
 *
 * WAL of pgbench, beside level 1: level -1 takes 0.82 of the processor time and 1.17 of the space, level 3 takes 1.5 and 0.86.
 */
/** A level of zstd (1 to 19), or the choice left to `LevelChoice`. */
export type CompressLevel = number | "auto";

/** The levels of "auto". */
export const AUTO_LEVELS = { behind: -1, usual: 1, idle: 3 } as const;

/** Objects of at least this size are chosen for; smaller ones take a thread no time. */
const CHOSEN_BYTES_MIN = 1 << 20;
/** So many objects in a row must have been alone before a slower level is tried. */
const ALONE_MIN = 8;
/** Below this load a processor, averaged over a minute, the machine counts as idle. */
const IDLE_LOAD_MAX = 0.5;

/** The level of what has one level as a whole, such as a backup. */
export function fixedLevel(level: CompressLevel): number {
  return level === "auto" ? AUTO_LEVELS.usual : level;
}

export class LevelChoice {
  readonly #given: CompressLevel;
  readonly #load: () => number;
  /** Large objects that are being encoded. */
  #encoding = 0;
  /** Large objects since the last that found another one being encoded. */
  #alone = 0;

  /** `load` gives the processes that run or wait for a processor, for each processor. Without it the machine counts as busy. */
  constructor(given: CompressLevel, load: () => number = () => 1) {
    this.#given = given;
    this.#load = load;
  }

  /** Encodes an object of `rawBytes` at the level that suits now. Begins at once, and throws what `encode` throws. */
  async during<T>(rawBytes: number, encode: (level: number) => Promise<T>): Promise<T> {
    if (this.#given !== "auto") return encode(this.#given);
    if (rawBytes < CHOSEN_BYTES_MIN) return encode(AUTO_LEVELS.usual);
    const level = this.#choose();
    this.#encoding++;
    try {
      return await encode(level);
    } finally {
      this.#encoding--;
    }
  }

  #choose(): number {
    if (this.#encoding > 0) {
      this.#alone = 0;
      return AUTO_LEVELS.behind;
    }
    this.#alone++;
    return this.#alone > ALONE_MIN && this.#load() < IDLE_LOAD_MAX ? AUTO_LEVELS.idle : AUTO_LEVELS.usual;
  }
}
