/** Claims in detail: their order and their losses, the timelines that lead to the line, and those that belong to the archive. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { lineKey } from "../../src/archive/keys.ts";
import {
  decodeClaim,
  encodeClaim,
  putClaim,
  readClaims,
  readKnownTimelines,
  readLinePath,
} from "../../src/archive/line/claims.ts";
import { putHistory } from "../../src/archive/wal/objects.ts";
import type { GetResult } from "../../src/store/store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { timelineOf } from "../../src/wal/lsn.ts";
import { emptyArchive, lineClaim } from "./retained.ts";

/** A store whose listing names objects that are gone when they are read. */
class Forgetful extends MemoryStore {
  readonly gone = new Set<string>();
  override async get(key: string, options?: object): Promise<GetResult | undefined> {
    return this.gone.has(key) ? undefined : super.get(key, options);
  }
}

let store: Forgetful;
let archive: Archive;
beforeEach(async () => {
  store = new Forgetful();
  archive = await emptyArchive(store);
});

const history = (timeline: number, ...lines: string[]): Promise<unknown> =>
  putHistory(archive, timelineOf(timeline), Buffer.from(`${lines.join("\n")}\n`));

describe("reading", () => {
  test("eleven claims come in the order of their numbers, without one that is gone", async () => {
    for (let number = 11; number >= 1; number--) await putClaim(archive, lineClaim(number, number));
    store.gone.add(lineKey("main", 4));
    const numbers = (await readClaims(archive)).map(({ number }) => number);
    expect(numbers).toEqual([1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
  });

  test("a number whose claim cannot be read back is taken", async () => {
    await putClaim(archive, lineClaim(1, 1));
    store.gone.add(lineKey("main", 1));
    expect(await putClaim(archive, lineClaim(1, 1))).toBe("exists");
  });

  test.each([
    ["absent", null, undefined],
    ["a text", "file:///b", "file:///b"],
  ])("a mark that is %s is read", (_, mark, read) => {
    const fields = JSON.parse(Buffer.from(encodeClaim(lineClaim(1, 1))).toString()) as Record<string, unknown>;
    const bytes = Buffer.from(JSON.stringify({ ...fields, restoredFrom: mark }));
    expect(decodeClaim(bytes, { key: "k", number: 1 }).restoredFrom).toBe(read);
  });

  test.each([[1], [true], [{}]])("a mark that is %j is damage", (mark) => {
    const fields = JSON.parse(Buffer.from(encodeClaim(lineClaim(1, 1))).toString()) as Record<string, unknown>;
    const bytes = Buffer.from(JSON.stringify({ ...fields, restoredFrom: mark }));
    expect(() => decodeClaim(bytes, { key: "k", number: 1 })).toThrow(
      expect.objectContaining({ code: "object-corrupt" }),
    );
  });
});

describe("the way to the line's end", () => {
  test("is empty without claims", async () => {
    expect(await readLinePath(archive, [])).toEqual([]);
  });

  test("is the stored history of the newest claim's timeline, whatever parent the claim names", async () => {
    await history(4, "1\t0/500000\ta", "2\t0/600000\tb");
    expect(await readLinePath(archive, [lineClaim(1, 9), lineClaim(2, 4, 3)])).toEqual([4, 2, 1]);
  });

  test("is the claim's parent where the history file is missing", async () => {
    expect(await readLinePath(archive, [lineClaim(1, 4, 3)])).toEqual([4, 3]);
    expect(await readLinePath(archive, [lineClaim(1, 4)])).toEqual([4]);
  });

  test("of timeline 1 reads no history", async () => {
    await store.put("main/wal/00000001.history", Buffer.from("nonsense"));
    expect(await readLinePath(archive, [lineClaim(1, 1)])).toEqual([1]);
  });
});

describe("timelines of the archive", () => {
  test("are those that were claimed, their parents, and the ancestors of both", async () => {
    await history(7, "5\t0/700000\ta");
    await history(6, "2\t0/500000\ta", "3\t0/600000\tb");
    expect(await readKnownTimelines(archive, [lineClaim(1, 7), lineClaim(2, 8, 6)])).toEqual(
      new Set([7, 5, 8, 6, 2, 3]),
    );
    expect(await readKnownTimelines(archive, [])).toEqual(new Set());
  });
});
