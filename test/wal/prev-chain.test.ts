/** The chain of xl_prev: to the bit in both words, and only "before" where nothing is known yet. */
import { describe, expect, test } from "vitest";
import { lowWord } from "../../src/wal/lsn.ts";
import { PrevChain } from "../../src/wal/prev-chain.ts";

const words = (lsn: bigint): [number, number] => [Number(lsn >> 32n) | 0, lowWord(lsn)];

describe("the first record that is seen", () => {
  test.each<{ name: string; start: bigint; prev: bigint; problem?: string }>([
    { name: "may name any earlier one", start: 0x500000028n, prev: 0x4_ffff_fff8n },
    { name: "may name the very start of the WAL", start: 8n, prev: 0n },
    {
      name: "may not name itself",
      start: 0x500000028n,
      prev: 0x500000028n,
      problem: "xl_prev is 5/28, which does not lie before the record",
    },
    {
      name: "may not name a later one",
      start: 0x500000028n,
      prev: 0x600000000n,
      problem: "xl_prev is 6/0, which does not lie before the record",
    },
    { name: "is compared without a sign", start: 0x9000000090000000n, prev: 0x80000000n },
  ])("$name", ({ start, prev, problem }) => {
    const chain = new PrevChain();
    expect(chain.isKnown).toBe(false);
    expect(chain.problem(...words(start), ...words(prev))).toBe(problem);
  });
});

describe("a record behind one that was seen", () => {
  test.each<{ name: string; prev: bigint; problem?: string }>([
    { name: "names it", prev: 0x8000000090000000n },
    { name: "may not name one that differs in the low word", prev: 0x8000000090000008n, problem: "80000000/90000008" },
    { name: "may not name one that differs in the high word", prev: 0x8000000190000000n, problem: "80000001/90000000" },
    { name: "may not name an earlier one", prev: 0n, problem: "0/0" },
  ])("$name", ({ prev, problem }) => {
    const chain = new PrevChain();
    chain.follow(...words(0x8000000090000000n));
    expect(chain.isKnown).toBe(true);
    expect(chain.lsn).toBe(0x8000000090000000n);
    const said = chain.problem(...words(0x8000000090000100n), ...words(prev));
    expect(said).toBe(problem === undefined ? undefined : `xl_prev is ${problem}, expected 80000000/90000000`);
  });
});
