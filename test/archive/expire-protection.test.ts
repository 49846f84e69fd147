/** A store whose listings lack what protects data: nothing is deleted, whichever listing it is. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { expire, removeUnlisted } from "../../src/archive/retention/expire.ts";
import { type Decide, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { ListOptions, ObjectInfo, RequestOptions } from "../../src/store/store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { emptyArchive, NEW, OLD, putSegments, putWholeBackup } from "./retained.ts";

const MIDDLE = "20260202T000000Z-aaaaaaaa";
/** Memory stores stamp objects with the real time: two days later nothing in them is fresh. */
const now = (): Date => new Date(Date.now() + 2 * 86_400_000);

/** Leaves out of its listings what a test hides; everything else is true. */
class ForgetfulStore extends MemoryStore {
  hidesListed: (prefix: string, key: string) => boolean = () => false;
  hidesFolder: (folder: string) => boolean = () => false;

  override async *listPages(prefix: string, options?: ListOptions): AsyncIterable<readonly ObjectInfo[]> {
    for await (const page of super.listPages(prefix, options)) {
      const shown = page.filter(({ key }) => !this.hidesListed(prefix, key));
      if (shown.length > 0) yield shown;
    }
  }

  override async *list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    for await (const page of this.listPages(prefix, options)) yield* page;
  }

  override async listPrefixes(prefix: string, options?: RequestOptions): Promise<string[]> {
    return (await super.listPrefixes(prefix, options)).filter((folder) => !this.hidesFolder(folder));
  }
}

let store: ForgetfulStore;
let archive: Archive;
const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, now());

async function expireNow(forget: () => void = () => undefined) {
  const planned = await planExpiry(archive, decide, { ignoreStandstill: true });
  forget();
  return expire(archive, planned, { now, decide, withWal: true });
}

beforeEach(async () => {
  store = new ForgetfulStore();
  archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 30);
  const at = (id: string) => `2026-02-${id.slice(6, 8)}T00:00:00.000Z`;
  for (const [id, start] of [
    [OLD, "5"],
    [MIDDLE, "C"],
    [NEW, "14"],
  ] as const) {
    const lsns = { startLsn: `0/${start}00028`, stopLsn: `0/${start}00100` };
    await putWholeBackup(archive, { id, ...lsns, startedAt: at(id), finishedAt: at(id) });
  }
});

describe("an expiry", () => {
  const pin = { backup: OLD, pinnedAt: now().toISOString(), expiresAt: null, note: "before the migration" };

  test("with a pinned backup, while the listing of pins is empty, deletes nothing", async () => {
    await putPin(archive, pin);
    const before = await keysBelow(store, "main/");
    store.hidesListed = (prefix, key) => prefix === "main/pins/" && key.startsWith(prefix);
    await expect(expireNow()).rejects.toMatchObject({ code: "store-lied" });
    store.hidesListed = () => false;
    expect(await keysBelow(store, "main/")).toEqual(before);
  });

  test("whose backups are listed by the plan and no more afterwards deletes nothing", async () => {
    const before = await keysBelow(store, "main/");
    await expect(expireNow(() => (store.hidesFolder = (folder) => folder.includes(NEW)))).rejects.toMatchObject({
      code: "store-lied",
    });
    expect(await keysBelow(store, "main/")).toEqual(before);
  });

  test("of which one backup is missing from every listing of folders deletes nothing", async () => {
    const before = await keysBelow(store, "main/");
    for (const id of [OLD, MIDDLE, NEW]) {
      store.hidesFolder = (folder) => folder.includes(id);
      await expect(expireNow(), id).rejects.toMatchObject({ code: "store-lied" });
    }
    expect(await keysBelow(store, "main/")).toEqual(before);
  });

  test("runs as planned when the readings agree", async () => {
    await putPin(archive, { ...pin, backup: MIDDLE });
    const { removed } = await expireNow();
    expect(removed.map(({ id }) => id)).toEqual([OLD]);
  });
});

test("deleting an unfinished backup that is pinned, while the listing of pins was empty, is refused", async () => {
  await putPin(archive, { backup: OLD, pinnedAt: now().toISOString(), expiresAt: null, note: "" });
  const before = await keysBelow(store, "main/");
  const removing = removeUnlisted(archive, OLD, { now, decide, withWal: false });
  await expect(removing).rejects.toMatchObject({ code: "backup-protected" });
  expect(await keysBelow(store, "main/")).toEqual(before);
});
