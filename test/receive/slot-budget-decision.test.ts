/** When a slot over its budget is let go: looks in order, 15 seconds apart. And which server is taken for one whose commits wait. */
import { describe, expect, test } from "vitest";
import { namesStandby } from "../../src/receive/slot-advance.ts";
import { followBudget, isGraceOver, type Overrun } from "../../src/receive/slot-budget.ts";

describe("the decision", () => {
  const budget = { bytesMax: 100, graceMs: 300_000 };
  /** Looks every 15 seconds; null: the server could not be asked. */
  const follow = (looks: readonly (number | null)[]): Overrun | undefined =>
    looks.reduce<Overrun | undefined>((before, kept, i) => followBudget(before, kept, budget, i * 15_000), undefined);
  const times = <T>(count: number, look: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => look(i));

  test.each<{
    readonly title: string;
    readonly looks: readonly (number | null)[];
    readonly over: boolean;
    readonly due: boolean;
  }>([
    { title: "within the budget", looks: [0, 50, 100], over: false, due: false },
    { title: "just over it", looks: [50, 101], over: true, due: false },
    { title: "over it for less than the grace period", looks: times(20, () => 150), over: true, due: false },
    { title: "over it for the grace period, the same amount", looks: times(21, () => 150), over: true, due: true },
    { title: "growing", looks: times(21, (i) => 150 + i), over: true, due: true },
    { title: "shrinking for hours", looks: times(500, (i) => 5000 - i), over: true, due: false },
    {
      title: "shrinking, then growing again for the grace period",
      looks: [...times(10, (i) => 200 - i), ...times(21, (i) => 200 + i)],
      over: true,
      due: true,
    },
    {
      title: "up and down, with a new low in the grace period",
      looks: times(60, (i) => (i % 10 === 9 ? 300 - i : 400)),
      over: true,
      due: false,
    },
    {
      title: "up and down, without a new low",
      looks: [200, ...times(21, (i) => 201 + (i % 2))],
      over: true,
      due: true,
    },
    { title: "a little below the budget", looks: [...times(21, () => 150), 95], over: true, due: false },
    { title: "well below the budget", looks: [...times(21, () => 150), 89], over: false, due: false },
    {
      title: "unseen for three looks",
      looks: [...times(10, () => 150), null, null, null, ...times(8, () => 150)],
      over: true,
      due: true,
    },
    {
      title: "unseen for ten minutes",
      looks: [...times(10, () => 150), ...times(40, () => null), ...times(2, () => 150)],
      over: true,
      due: false,
    },
  ])("$title", ({ looks, over, due }) => {
    const overrun = follow(looks);
    expect(overrun !== undefined).toBe(over);
    expect(overrun !== undefined && isGraceOver(overrun, budget)).toBe(due);
  });
});

describe("synchronous_standby_names", () => {
  test.each([
    ["", "seawall", false],
    ["db2", "seawall", false],
    ["*", "seawall", true],
    ["FIRST 2 (db2, *)", "seawall", true],
    ["seawall", "seawall", true],
    ['ANY 1 ("Seawall", db2)', "seawall", true],
    ["seawall_orders", "seawall", true],
  ])("%j and the name %j: %s", (names, name, expected) => {
    expect(namesStandby(names, name)).toBe(expected);
  });
});
