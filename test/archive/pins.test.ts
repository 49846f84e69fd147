/** Pins: written, replaced, removed; never for a moment absent; what cannot be read counts. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { putMark } from "../../src/archive/retention/marks.ts";
import { backupDocumentKey, expiringKey, parsePinKey, pinKey } from "../../src/archive/keys.ts";
import { isInForce, listPins, type Pin, putPin, removePin } from "../../src/archive/backups/pins.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { emptyArchive, putBackupDocument } from "./retained.ts";

const ID = "20260203T040506Z-0badcafe";
const OTHER = "20260204T040506Z-00000001";

const pinOf = (changes: Partial<Pin> = {}): Pin => ({
  backup: ID,
  pinnedAt: "2026-02-05T00:00:00.000Z",
  expiresAt: null,
  note: "",
  ...changes,
});

let store: FaultyStore;
let archive: Archive;
beforeEach(async () => {
  store = new FaultyStore(new MemoryStore());
  archive = await emptyArchive(store);
  await putBackupDocument(archive, { id: ID });
});

test("a pin's key is what the format's page says, and nothing else is one", () => {
  expect(pinKey("main", ID, 2)).toBe(`main/pins/${ID}.2.json`);
  expect(parsePinKey(`main/pins/${ID}.2.json`)).toEqual({ key: `main/pins/${ID}.2.json`, backup: ID, generation: 2 });
  for (const other of [`${ID}.json`, `${ID}.0.json`, `${ID}.02.json`, `${ID}.1.jsonl`, "x.1.json", `a/${ID}.1.json`]) {
    expect(parsePinKey(`main/pins/${other}`)).toBeUndefined();
  }
});

test("a pin is read back as it was, and the last one of a backup counts", async () => {
  await putBackupDocument(archive, { id: OTHER });
  await putPin(archive, pinOf({ note: "first" }));
  await putPin(archive, pinOf({ backup: OTHER, expiresAt: "2027-01-01T00:00:00.000Z" }));
  await putPin(archive, pinOf({ note: "second", expiresAt: "2026-03-01T00:00:00.000Z" }));
  expect(await listPins(archive)).toEqual([
    pinOf({ note: "second", expiresAt: "2026-03-01T00:00:00.000Z" }),
    pinOf({ backup: OTHER, expiresAt: "2027-01-01T00:00:00.000Z" }),
  ]);
  expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", ID, 2), pinKey("main", OTHER, 1)]);
});

test("while a pin is replaced the backup is pinned at every moment", async () => {
  await putPin(archive, pinOf({ note: "first" }));
  const point = store.failpoint({ operation: "delete", fault: "stall" });
  const replacing = putPin(archive, pinOf({ note: "second" }));
  await point.reached;
  expect(await listPins(archive)).toEqual([pinOf({ note: "second" })]);
  point.release();
  await replacing;
  expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", ID, 2)]);
});

test("two who pin one backup at the same time leave one pin", async () => {
  const point = store.failpoint({ operation: "put", key: "main/pins/", fault: "stall" });
  const first = putPin(archive, pinOf({ note: "first" }));
  await point.reached;
  await putPin(archive, pinOf({ note: "second" }));
  point.release();
  await first;
  expect(await listPins(archive)).toEqual([pinOf({ note: "first" })]);
});

test("a put that is tried again after it took effect is one pin", async () => {
  store.failpoint({ operation: "put", key: "main/pins/", fault: "fail-after" });
  await expect(putPin(archive, pinOf())).rejects.toThrow();
  await putPin(archive, pinOf());
  expect(await listPins(archive)).toEqual([pinOf()]);
});

test("only a backup that is there can be pinned", async () => {
  await expect(putPin(archive, pinOf({ backup: OTHER }))).rejects.toMatchObject({ code: "backup-absent" });
  await expect(putPin(archive, pinOf({ backup: "../../x" }))).rejects.toMatchObject({ code: "backup-absent" });
  const point = store.failpoint({ operation: "put", key: "main/pins/", fault: "stall" });
  const late = putPin(archive, pinOf());
  await point.reached;
  await store.delete([backupDocumentKey("main", ID)]);
  point.release();
  await expect(late).rejects.toMatchObject({ code: "backup-absent" });
  expect(await keysBelow(store, "main/pins/")).toEqual([]);
});

test("removing says whether there was one; what is not a pin stays", async () => {
  await putPin(archive, pinOf());
  await store.put(`main/pins/${ID}.json`, Buffer.from("{}"));
  expect(await removePin(archive, ID)).toBe(true);
  expect(await removePin(archive, ID)).toBe(false);
  expect(await listPins(archive)).toEqual([]);
  expect(await keysBelow(store, "main/pins/")).toEqual([`main/pins/${ID}.json`]);
});

test("a pin that runs out is in force until that moment", () => {
  const pin = pinOf({ expiresAt: "2026-03-01T00:00:00.000Z" });
  expect(isInForce(pin, new Date("2026-02-28T23:59:59.999Z"))).toBe(true);
  expect(isInForce(pin, new Date("2026-03-01T00:00:00.000Z"))).toBe(false);
  expect(isInForce(pinOf(), new Date("9999-01-01T00:00:00.000Z"))).toBe(true);
});

describe("a pin that cannot be read counts as one without end", () => {
  test.each([
    ["no JSON", "{", /is not JSON/],
    ["a newer version", '{"version":2}', /has version 2/],
    ["another backup's", JSON.stringify({ version: 1, ...pinOf({ backup: OTHER }) }), /backup is/],
    ["no moment", JSON.stringify({ version: 1, ...pinOf({ expiresAt: "tomorrow" }) }), /expiresAt is "tomorrow"/],
  ])("%s", async (_, text, note) => {
    await store.put(pinKey("main", ID, 1), Buffer.from(text));
    const [pin] = await listPins(archive);
    expect(pin).toMatchObject({ backup: ID, expiresAt: null, note: expect.stringMatching(note) as string });
  });
});

describe("of several generations of a pin", () => {
  const put = (generation: number, note: string): Promise<unknown> =>
    store.put(pinKey("main", ID, generation), Buffer.from(JSON.stringify({ version: 1, ...pinOf({ note }) })));

  test("the highest counts, though the tenth is listed before the ninth", async () => {
    await put(9, "ninth");
    await put(10, "tenth");
    expect(await listPins(archive)).toEqual([pinOf({ note: "tenth" })]);
    await putPin(archive, pinOf({ note: "again" }));
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", ID, 11)]);
  });

  test("the next is read where the one that was listed is gone", async () => {
    await put(1, "first");
    const point = store.failpoint({ operation: "get", key: "main/pins/", fault: "stall" });
    const listing = listPins(archive);
    await point.reached;
    await put(2, "second");
    await store.delete([pinKey("main", ID, 1)]);
    point.release();
    expect(await listing).toEqual([pinOf({ note: "second" })]);
  });

  test("none counts where it was removed since it was listed", async () => {
    await put(1, "first");
    const point = store.failpoint({ operation: "get", key: "main/pins/", fault: "stall" });
    const listing = listPins(archive);
    await point.reached;
    await store.delete([pinKey("main", ID, 1)]);
    point.release();
    expect(await listing).toEqual([]);
  });
});

test("the pin of one backup is listed without those of others", async () => {
  await putBackupDocument(archive, { id: OTHER });
  await putPin(archive, pinOf());
  await putPin(archive, pinOf({ backup: OTHER }));
  expect(await listPins(archive, { backup: OTHER })).toEqual([pinOf({ backup: OTHER })]);
  await removePin(archive, OTHER);
  expect(await listPins(archive)).toEqual([pinOf()]);
});

test("a store that does not answer is no pin that cannot be read: the listing fails", async () => {
  await putPin(archive, pinOf());
  store.failpoint({ operation: "get", key: "main/pins/", fault: "fail-before" });
  await expect(listPins(archive)).rejects.toMatchObject({ code: "store-unavailable" });
});

describe("a backup that an expiry has marked", () => {
  beforeEach(() => putMark(archive, ID, new Date()));

  test("is pinned once the expiry takes its mark back", async () => {
    const pinning = putPin(archive, pinOf());
    await vi.waitFor(async () => expect(await keysBelow(store, "main/pins/")).toHaveLength(1));
    await store.delete([expiringKey("main", ID)]);
    await pinning;
    expect(await listPins(archive)).toEqual([pinOf()]);
  });

  test("is not pinned when the expiry goes on: the pin goes, and the caller is told", async () => {
    const pinning = putPin(archive, pinOf());
    const refused = expect(pinning).rejects.toMatchObject({ code: "backup-absent" });
    await vi.waitFor(async () => expect(await keysBelow(store, "main/pins/")).toHaveLength(1));
    await store.delete([backupDocumentKey("main", ID)]);
    await refused;
    expect(await keysBelow(store, "main/pins/")).toEqual([]);
  });

  test("may be gone soon when the expiry does not decide in time: the pin stays for it to see", async () => {
    await expect(putPin(archive, pinOf(), { waitMs: 0 })).rejects.toMatchObject({ code: "backup-removed" });
    expect(await listPins(archive)).toEqual([pinOf()]);
  });

  test("is waited for until the caller stops", async () => {
    const stop = new AbortController();
    const pinning = putPin(archive, pinOf(), { signal: stop.signal });
    const refused = expect(pinning).rejects.toMatchObject({ code: "aborted" });
    await vi.waitFor(async () => expect(await keysBelow(store, "main/pins/")).toHaveLength(1));
    stop.abort();
    await refused;
  });
});

describe("a pin under whose key something is stored already", () => {
  test("is that pin, when an earlier try of it stored the same: no second generation is made", async () => {
    const put = store.put.bind(store);
    let puts = 0;
    store.put = async (key, body, options) => {
      const result = await put(key, body, options);
      return key.startsWith("main/pins/") && ++puts === 1 ? "exists" : result;
    };
    await putPin(archive, pinOf());
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", ID, 1)]);
    expect(puts).toBe(1);
  });

  test("takes the next generation, when that vanished meanwhile", async () => {
    const put = store.put.bind(store);
    let puts = 0;
    store.put = (key, body, options) =>
      key.startsWith("main/pins/") && ++puts === 1 ? Promise.resolve("exists") : put(key, body, options);
    await putPin(archive, pinOf());
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", ID, 2)]);
  });

  test("is given up after nine tries, when others pin the backup each time", async () => {
    let puts = 0;
    store.put = () => (puts++, Promise.resolve("exists"));
    await expect(putPin(archive, pinOf())).rejects.toMatchObject({ code: "store-unavailable" });
    expect(puts).toBe(9);
  });
});

test("a pin is replaced although the store keeps the older one, which does not count any more", async () => {
  await putPin(archive, pinOf({ note: "first" }));
  store.failpoint({ operation: "delete", fault: "deny", times: Infinity });
  await putPin(archive, pinOf({ note: "second" }));
  expect(await listPins(archive)).toEqual([pinOf({ note: "second" })]);
  expect(await keysBelow(store, "main/pins/")).toHaveLength(2);
});
