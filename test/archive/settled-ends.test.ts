/** Ends of windows that do not move: each is read once, when there is memory, and one at a time. */
import { expect, test } from "vitest";
import { SettledEnds } from "../../src/archive/catalog/settled-ends.ts";

const SEGMENT = 16 << 20;

function asking(ends: SettledEnds, segmentSize = SEGMENT) {
  const read: string[] = [];
  const ask = (key: string): Promise<string | undefined> =>
    ends.timeOf(key, {
      segmentSize,
      whole: () => {
        read.push(key);
        return Promise.resolve(`whole ${key}`);
      },
      summary: () => Promise.resolve(`summary ${key}`),
    });
  return { read, ask };
}

test("an end is read once, however often the archive is listed", async () => {
  const ends = new SettledEnds();
  const { read, ask } = asking(ends);
  for (const mayRead of [true, true, false]) {
    ends.begin({ mayRead });
    expect(await ask("a")).toBe("whole a");
    ends.end();
  }
  expect([read, ends.isOwing]).toEqual([["a"], false]);
});

test("without memory the summary stands in, and the end is owed until it is read", async () => {
  const ends = new SettledEnds();
  const { ask } = asking(ends);
  ends.begin({ mayRead: false });
  expect([await ask("a"), ends.isOwing]).toEqual(["summary a", true]);
  ends.begin({ mayRead: true });
  expect([await ask("a"), ends.isOwing]).toEqual(["whole a", false]);
});

test("a listing reads so many ends, and the next one goes on", async () => {
  const ends = new SettledEnds();
  const { ask } = asking(ends);
  ends.begin({ mayRead: true, readsMax: 1 });
  expect([await ask("a"), await ask("b"), ends.isOwing]).toEqual(["whole a", "summary b", false]);
  ends.begin({ mayRead: true, readsMax: 1 });
  expect([await ask("a"), await ask("b")]).toEqual(["whole a", "whole b"]);
});

test("segments of 64 MiB are read, larger ones never are", async () => {
  const ends = new SettledEnds();
  ends.begin({ mayRead: true });
  expect(await asking(ends, 64 << 20).ask("a")).toBe("whole a");
  expect(await asking(ends, 128 << 20).ask("b")).toBe("summary b");
  ends.begin({ mayRead: false });
  await asking(ends, 128 << 20).ask("b");
  expect(ends.isOwing).toBe(false);
});

test("an end that is gone is forgotten", async () => {
  const ends = new SettledEnds();
  const { read, ask } = asking(ends);
  ends.begin({ mayRead: true });
  await ask("a");
  ends.begin({ mayRead: true });
  ends.end();
  await ask("a");
  expect(read).toEqual(["a", "a"]);
});

test("segments are held one at a time, and one that fails gives its turn on", async () => {
  const ends = new SettledEnds();
  ends.begin({ mayRead: true });
  let [held, heldMax] = [0, 0];
  const whole = async (): Promise<string> => {
    heldMax = Math.max(heldMax, ++held);
    await new Promise((resolve) => setImmediate(resolve));
    held--;
    throw new Error("damaged");
  };
  const facts = { segmentSize: SEGMENT, whole, summary: () => Promise.resolve(undefined) };
  const outcomes = await Promise.allSettled(["a", "b", "c"].map((key) => ends.timeOf(key, facts)));
  expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  expect(heldMax).toBe(1);
});
