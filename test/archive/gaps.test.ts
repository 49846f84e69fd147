/** Gap documents: stored once under the key that names the gap, and counted even when they cannot be read. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap, type Gap } from "../../src/archive/documents.ts";
import { gapOf, listGaps, readGaps } from "../../src/archive/wal/gaps.ts";
import { gapKey } from "../../src/archive/keys.ts";
import { putGap } from "../../src/archive/wal/put-gap.ts";
import { SeawallError } from "../../src/errors.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { ObjectInfo } from "../../src/store/store.ts";
import { type Lsn, timelineOf } from "../../src/wal/lsn.ts";

let store: MemoryStore;
let archive: Archive;

beforeEach(() => {
  store = new MemoryStore();
  const identity = { systemIdentifier: 7n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  archive = { store, cluster: "main", identity, codec: runCodec };
});

function gapAt(timeline: number, from: bigint, to: bigint, reason = "the slot was invalidated"): Gap {
  const detectedAt = "2026-03-02T10:15:00.000Z";
  return { timeline: timelineOf(timeline), fromLsn: from as Lsn, toLsn: to as Lsn, detectedAt, reason };
}

const keyOf = ({ timeline, fromLsn, toLsn }: Gap): string => gapKey("main", timeline, fromLsn, toLsn);
const lost = gapAt(2, 0x500000n, 0x700000n);

/** Stores a document of `gap` under the key of `named`. */
const misplace = (named: Gap, gap: Gap): Promise<unknown> => store.put(keyOf(named), encodeGap(gap));

describe("a gap that is recorded", () => {
  test("is read as it was written", async () => {
    expect(await putGap(archive, lost)).toBe("created");
    expect(await readGaps(archive)).toEqual({ gaps: [lost], damaged: [] });
  });

  test("a second time, later and with another reason, stays as it was", async () => {
    await putGap(archive, lost);
    const again = { ...lost, reason: "the server recycled it", detectedAt: "2026-03-02T10:20:00.000Z" };
    expect(await putGap(archive, again)).toBe("exists");
    expect(await listGaps(archive)).toEqual([lost]);
  });

  test("a second time, while its document cannot be read, counts as recorded", async () => {
    await store.put(keyOf(lost), Buffer.from("{"));
    expect(await putGap(archive, lost)).toBe("exists");
  });

  test.each<[string, Gap]>([
    ["another timeline", gapAt(3, 0x500000n, 0x700000n)],
    ["another begin", gapAt(2, 0x400000n, 0x700000n)],
    ["another end", gapAt(2, 0x500000n, 0x800000n)],
  ])("whose key holds a document of %s is refused", async (_, other) => {
    await misplace(lost, other);
    await expect(putGap(archive, lost)).rejects.toMatchObject({ code: "segment-conflict" });
  });
});

describe("the recorded gaps", () => {
  test("are in the order of timelines, then of LSNs", async () => {
    const gaps = [gapAt(1, 0x900000n, 0xa00000n), gapAt(2, 0x100000n, 0x200000n), gapAt(2, 0x300000n, 0x400000n)];
    const later = gapAt(2, 0x1_0000_0000n, 0x1_0010_0000n);
    for (const gap of [later, ...gaps].reverse()) await putGap(archive, gap);
    expect(await listGaps(archive)).toEqual([...gaps, later]);
  });

  test("are sorted by LSN although the store lists them in another order", async () => {
    const gaps = [gapAt(1, 0x900000n, 0xa00000n), gapAt(2, 0x100000n, 0x200000n), gapAt(2, 0x300000n, 0x400000n)];
    for (const gap of gaps) await putGap(archive, gap);
    const listed: ObjectInfo[] = [];
    for await (const object of store.list("main/")) listed.unshift(object);
    store.list = async function* () {
      yield* listed;
    };
    expect(await listGaps(archive)).toEqual(gaps);
  });

  test("leave out what is no gap, and one that vanished since it was listed", async () => {
    await putGap(archive, lost);
    await store.put("main/gaps/README", Buffer.from("by hand"));
    const vanishing = gapAt(2, 0x900000n, 0xa00000n);
    await putGap(archive, vanishing);
    const get = store.get.bind(store);
    store.get = (key, options) => (key === keyOf(vanishing) ? Promise.resolve(undefined) : get(key, options));
    expect(await readGaps(archive)).toEqual({ gaps: [lost], damaged: [] });
  });

  test.each<[string, Uint8Array, string]>([
    ["that is cut", Buffer.from("{"), "object-corrupt"],
    ["of a later version", Buffer.from('{"version":99}'), "archive-version"],
    [
      "of timeline 0",
      Buffer.from(Buffer.from(encodeGap(lost)).toString().replace('"timeline": 2', '"timeline": 0')),
      "object-corrupt",
    ],
    ["of another timeline", encodeGap(gapAt(3, 0x500000n, 0x700000n)), "object-corrupt"],
    ["with another begin", encodeGap(gapAt(2, 0x400000n, 0x700000n)), "object-corrupt"],
    ["with another end", encodeGap(gapAt(2, 0x500000n, 0x800000n)), "object-corrupt"],
  ])("count a document %s as a gap, and name it as damage", async (_, bytes, code) => {
    await store.put(keyOf(lost), bytes);
    const { gaps, damaged } = await readGaps(archive);
    const reason: unknown = expect.stringContaining("cannot be read");
    expect(gaps).toEqual([{ ...lost, detectedAt: "1970-01-01T00:00:00.000Z", reason }]);
    expect(damaged).toMatchObject([{ key: keyOf(lost), error: { code } }]);
  });
});

describe("a gap's document", () => {
  test("that is damaged gives the error instead of throwing it", () => {
    expect(gapOf(Buffer.from("{"), "main/gaps/x")).toBeInstanceOf(SeawallError);
    expect(gapOf(encodeGap(lost), "main/gaps/x")).toEqual(lost);
  });
});
