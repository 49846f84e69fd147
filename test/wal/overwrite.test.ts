/** A page that gives a record up, and the record that must say which: neither without the other. */
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../src/wal/lsn.ts";
import { OverwriteWatch } from "../../src/wal/overwrite.ts";

const BROKEN = 0x16b3740n as Lsn;
const OTHER = 0x16b3748n as Lsn;

describe("the record", () => {
  test.each<{ name: string; broken?: Lsn; named: Lsn }>([
    { name: "names the one that was given up", broken: BROKEN, named: BROKEN },
    { name: "names any one, when the beginning of that was never seen", named: OTHER },
  ])("$name: nothing is due any more", ({ broken, named }) => {
    const watch = new OverwriteWatch();
    expect(watch.due).toBe(false);
    watch.expect(broken);
    expect(watch.due).toBe(true);
    expect(watch.judge(true, named)).toBeUndefined();
    expect(watch.due).toBe(false);
  });

  test.each<{ name: string; isDue?: boolean; overwrites?: boolean; named?: Lsn; problem: RegExp }>([
    {
      name: "overwrites none",
      overwrites: false,
      named: BROKEN,
      problem: /this first record on it does not say which/,
    },
    { name: "comes without its page", isDue: false, named: BROKEN, problem: /its page does not say so/ },
    { name: "is too short to name one", problem: /does not say which record it overwrites/ },
    { name: "names another", named: OTHER, problem: /overwrites 0\/16B3748, but the broken one is at 0\/16B3740/ },
  ])("$name: refused", ({ isDue = true, overwrites = true, named, problem }) => {
    const watch = new OverwriteWatch();
    if (isDue) watch.expect(BROKEN);
    expect(watch.judge(overwrites, named)).toMatch(problem);
    expect(watch.due).toBe(isDue);
  });
});
