/** Encrypted WAL in the archive: what writers without an identity compare, and what the archive refuses. */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test } from "vitest";
import { type Archive, openArchiveFor } from "../../src/archive/archive.ts";
import { agreeOnEncryption, allowPlain, readEncryption } from "../../src/archive/encryption.ts";
import { readDeclarations } from "../../src/archive/generations.ts";
import { putRun } from "../../src/archive/records/runs.ts";
import { declareSuccessor, planSuccessor, type SuccessorPlan } from "../../src/archive/successor.ts";
import { verifyArchive, type VerifyReport } from "../../src/archive/verify/verify.ts";
import { finishTimeline } from "../../src/archive/wal/finish-timeline.ts";
import { clearPart, peekWal, putChunk, putPartial, putSegment } from "../../src/archive/wal/objects.ts";
import { differsFrom, PieceComparison, readComparableTail } from "../../src/archive/wal/comparable-tail.ts";
import { readTail, readTailEnd } from "../../src/archive/wal/tail.ts";
import { refuseOtherTail, storePartialFile } from "../../src/archive/wal/whole-files.ts";
import { digestOf } from "../../src/codec/age/digest.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import type { Store } from "../../src/store/store.ts";
import { OpenSegment } from "../../src/receive/assembler.ts";
import { addBytes, formatLsn, type SegmentNumber, segmentEnd, segmentStart } from "../../src/wal/lsn.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newArchive, place, SIZE } from "./tail-archive.ts";

const identity = await generateX25519Identity();
const recipient = await identityToRecipient(identity);
const writing = new Codec({ recipients: await Recipients.of([recipient]) });
const reading = new Codec({ identities: new Identities([identity]) });
const START = segmentStart(place.segment, SIZE);
const WAL = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at++) WAL[at] = (at * 7 + (at >> 8)) & 0xff;

function archives(): { readonly writer: Archive; readonly reader: Archive; readonly plain: Archive } {
  const store = new MemoryStore();
  const of = (codec: Codec): Archive => newArchive(store, SIZE, codec);
  return { writer: of(writing), reader: of(reading), plain: of(new Codec()) };
}

/** Stores a chunk of WAL, as the receiver does. */
async function chunk(archive: Archive, start: number, end: number, wal: Uint8Array = WAL): Promise<string> {
  const endLsn = addBytes(START, end);
  const facts = {
    startLsn: addBytes(START, start),
    endLsn,
    verifiedLsn: endLsn,
    digest: digestOf(wal.subarray(0, end)),
  };
  return (await putChunk(archive, place, start, wal.subarray(start, end), facts, { confirm: true })).result;
}

const changed = (at: number): Buffer => {
  const copy = Buffer.from(WAL);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
};

describe("a tail of encrypted chunks", () => {
  test("is measured and compared without an identity, and read with one", async () => {
    const { writer, reader } = archives();
    for (const [start, end] of [
      [0, 1000],
      [1000, 30_000],
      [20_000, 50_000],
    ] as const)
      await chunk(writer, start, end);
    const endLsn = addBytes(START, 50_000);
    expect(await readTailEnd(writer, place)).toEqual({ endLsn, verifiedLsn: endLsn });
    await expect(readTail(writer, place)).rejects.toMatchObject({ code: "identity-missing" });
    const tail = await readComparableTail(writer, place);
    expect(tail).toMatchObject({ endLsn, verifiedLsn: endLsn });
    expect(tail?.pieces.map(({ end }) => end)).toEqual([1000, 30_000, 50_000]);
    expect(differsFrom(tail?.pieces ?? [], WAL)).toBeUndefined();
    expect(differsFrom(tail?.pieces ?? [], changed(50_000))).toBeUndefined();
    for (const [at, end] of [
      [0, 1000],
      [999, 1000],
      [1000, 30_000],
      [49_999, 50_000],
    ] as const) {
      expect(differsFrom(tail?.pieces ?? [], changed(at))).toBe(end);
    }
    const other = { ...reader, codec: new Codec({ identities: new Identities([await generateX25519Identity()]) }) };
    expect(await readTailEnd(other, place)).toEqual({ endLsn, verifiedLsn: endLsn });
    expect(await readComparableTail(other, place)).toEqual(tail);
    expect((await readTail(reader, place))?.bytes.equals(WAL.subarray(0, 50_000))).toBe(true);
    expect((await readComparableTail(reader, place))?.pieces).toEqual([
      { start: 0, end: 50_000, bytes: WAL.subarray(0, 50_000) },
    ]);
  });

  test("behind plain ones, after encryption was turned on, is compared as well", async () => {
    const { writer, plain, reader } = archives();
    await chunk(plain, 0, 8192);
    await chunk(writer, 8192, 9000);
    const tail = await readComparableTail(writer, place);
    expect(tail?.pieces.map((piece) => ("bytes" in piece ? "bytes" : "digest"))).toEqual(["bytes", "digest"]);
    expect(differsFrom(tail?.pieces ?? [], WAL)).toBeUndefined();
    expect(differsFrom(tail?.pieces ?? [], changed(4000))).toBe(4000);
    expect(differsFrom(tail?.pieces ?? [], changed(8500))).toBe(9000);
    expect((await readTail(reader, place))?.bytes.equals(WAL.subarray(0, 9000))).toBe(true);
  });

  test("is compared piece by piece as the content arrives, in any split", async () => {
    const { writer, plain } = archives();
    await chunk(plain, 0, 8192);
    await chunk(writer, 8192, 9000);
    await chunk(writer, 9000, 20_000);
    const pieces = (await readComparableTail(writer, place))?.pieces ?? [];
    for (const cut of [1, 4000, 8191, 8192, 8193, 9000, 9001, 19_999, 20_000]) {
      const same = new PieceComparison(pieces);
      for (const end of [cut, cut, 20_000]) expect(same.advance(WAL.subarray(0, end))).toBeUndefined();
    }
    for (const [at, found] of [
      [4000, 4000],
      [8500, 9000],
      [9000, 20_000],
    ] as const) {
      const differs = new PieceComparison(pieces);
      expect(differs.advance(changed(at).subarray(0, at))).toBeUndefined();
      expect(differs.advance(changed(at).subarray(0, found === at ? at + 1 : found))).toBe(found);
    }
  });

  test("that differs ends a resumed segment at the first piece that does", async () => {
    const { writer } = archives();
    await chunk(writer, 0, 1000);
    await chunk(writer, 1000, 30_000);
    const tail = await readComparableTail(writer, place);
    const prefix = { byteLength: 30_000, verifiedLsn: addBytes(START, 30_000), pieces: tail?.pieces };
    const open = (): OpenSegment =>
      new OpenSegment(place, { bytes: new Uint8Array(SIZE), isUsed: true } as never, prefix);
    const same = open();
    for (let at = 0; at < 40_000; at += 500) same.append(WAL.subarray(at, at + 500));
    expect(same.takeComparedPrefix()).toBe(prefix);
    const other = open();
    other.append(changed(3).subarray(0, 999));
    expect(() => other.append(changed(3).subarray(999, 1001))).toThrow(
      expect.objectContaining({ code: "wal-diverged" }) as Error,
    );
  });

  test("that is damaged is found without an identity", async () => {
    const { writer } = archives();
    await chunk(writer, 0, 1000);
    const [key = ""] = await keys(writer);
    const stored = Buffer.from((await writer.store.get(key))?.body ?? []);
    stored[stored.byteLength - 1] = (stored[stored.byteLength - 1] ?? 0) ^ 1;
    await writer.store.delete([key]);
    await writer.store.put(key, stored);
    await expect(readTailEnd(writer, place)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("stays as chunks when its timeline ends and there is no identity; with one it becomes a partial", async () => {
    const { writer, reader } = archives();
    await chunk(writer, 0, 1000);
    expect(await finishTimeline(writer, place.timeline, place.segment)).toEqual({ partial: undefined, retired: [] });
    expect(await keys(writer)).toHaveLength(1);
    const both = {
      ...reader,
      codec: new Codec({ recipients: await Recipients.of([recipient]), identities: reading.identities }),
    };
    const { partial, retired } = await finishTimeline(both, place.timeline, place.segment);
    expect(partial?.endLsn).toBe(addBytes(START, 1000));
    expect(retired).toHaveLength(1);
    expect((await readTail(reader, place))?.bytes.equals(WAL.subarray(0, 1000))).toBe(true);
    // The partial and the chunk, to one who can read neither.
    expect(await readTailEnd(writer, place)).toMatchObject({ endLsn: addBytes(START, 1000) });
  });
});

async function keys({ store }: Archive): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list("")) found.push(key);
  return found;
}

describe("a second object of the same WAL", () => {
  const facts = {
    startLsn: START,
    endLsn: segmentEnd(place.segment, SIZE),
    verifiedLsn: segmentEnd(place.segment, SIZE),
  };
  const seal = async (archive: Archive, wal: Uint8Array = WAL): Promise<string> =>
    (await putSegment(archive, place, wal, facts, { confirm: true })).result;

  test("with the same content is there already; with other content it is refused", async () => {
    const { writer } = archives();
    expect(await seal(writer)).toBe("created");
    expect(await seal(writer)).toBe("exists");
    await expect(seal(writer, changed(SIZE - 1))).rejects.toMatchObject({ code: "segment-conflict" });
    expect(await chunk(writer, 0, 1000)).toBe("created");
    expect(await chunk(writer, 0, 1000)).toBe("exists");
    await expect(chunk(writer, 0, 1000, changed(5))).rejects.toMatchObject({ code: "segment-conflict" });
  });

  test("is compared alike by a writer with an identity of other recipients", async () => {
    const recipients = await Recipients.of([recipient]);
    const codec = new Codec({ recipients, identities: new Identities([await generateX25519Identity()]) });
    for (const first of ["encrypted", "plain"] as const) {
      const { writer, plain } = archives();
      const stranger = { ...writer, codec };
      expect(await seal(first === "plain" ? plain : writer)).toBe("created");
      expect(await seal(stranger)).toBe("exists");
      await expect(seal(stranger, changed(SIZE - 1))).rejects.toMatchObject({ code: "segment-conflict" });
    }
  });

  test("is compared with a plain one", async () => {
    const { writer, plain } = archives();
    expect(await seal(plain)).toBe("created");
    expect(await seal(writer)).toBe("exists");
    await expect(seal(writer, changed(9))).rejects.toMatchObject({ code: "segment-conflict" });
  });

  test("by a writer that does not encrypt is refused with the recipients", async () => {
    const { writer, plain } = archives();
    await seal(writer);
    await expect(seal(plain)).rejects.toMatchObject({
      code: "identity-missing",
      message: expect.stringContaining(recipient) as string,
    });
  });

  test("from archive_command is compared with a receiver's chunks", async () => {
    const { writer } = archives();
    await chunk(writer, 0, 1000);
    await refuseOtherTail(writer, place, WAL, {});
    await expect(refuseOtherTail(writer, place, changed(10), {})).rejects.toMatchObject({ code: "segment-conflict" });
  });

  test("as a partial of more or less WAL is compared as far as its digest reaches", async () => {
    const { writer } = archives();
    const end = (bytes: number): { endLsn: typeof START; verifiedLsn: typeof START } => ({
      endLsn: addBytes(START, bytes),
      verifiedLsn: addBytes(START, bytes),
    });
    expect(await storePartialFile(writer, place, WAL, end(1000), {})).toBe("created");
    expect(await storePartialFile(writer, place, WAL, end(1000), {})).toBe("exists");
    expect(await storePartialFile(writer, place, WAL, end(2000), {})).toBe("exists");
    await expect(storePartialFile(writer, place, changed(3), end(2000), {})).rejects.toMatchObject({
      code: "segment-conflict",
    });
    await expect(storePartialFile(writer, place, WAL, end(500), {})).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining("has more WAL than this file, 1000 bytes of it, and is encrypted") as string,
    });
  });
});

test("the clear part has no name, no path and no byte of a record; the full envelope has them", async () => {
  const { writer, reader } = archives();
  const summary = {
    recordCount: 3,
    isRead: true,
    commitCount: 1,
    abortCount: 0,
    firstCommitTime: undefined,
    lastCommitTime: undefined,
    restorePoints: [{ name: "before the merger", time: 1, lsn: START }],
    changes: [],
  };
  const prefix = Buffer.from("a record that begins with table data, a canary").toString("base64");
  const carry = {
    at: "0/600000",
    magic: 1,
    verifiedLsn: "0/5FFF00",
    record: { start: "0/5FFF00", got: 256, crc: 77, prefix },
  };
  const facts = { startLsn: START, endLsn: segmentEnd(place.segment, SIZE), verifiedLsn: START, summary, carry };
  await putSegment(writer, place, WAL, facts as never, { confirm: true });
  const clear = (await peekWal(writer, "segment", place, { part: "full" }))?.envelope.meta;
  expect(Object.keys(clear ?? {})).not.toContain("restorePoints");
  expect(JSON.stringify(clear)).not.toContain("merger");
  expect(clear?.["carry"]).toMatchObject({ prev: "0/5FFF00" });
  expect(clear?.["carry"]).not.toHaveProperty("record");
  const full = (await peekWal(reader, "segment", place, { part: "full" }))?.envelope.meta;
  expect(full?.["restorePoints"]).toMatchObject([{ name: "before the merger" }]);
  expect(full?.["carry"]).toEqual(carry);
  expect(clearPart({ kind: "chunk" }, "0011")).toEqual({ meta: { kind: "chunk" }, digest: "0011" });
});

describe("the documents of encryption", () => {
  const server = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  const now = "2026-02-02T00:00:00.000Z";

  test("are written when recipients change, and keep plain writers out from then on", async () => {
    const store = new MemoryStore();
    const other = await identityToRecipient(await generateX25519Identity());
    await openArchiveFor(store, "main", server, { codec: new Codec() });
    expect(await readEncryption(store, "main")).toBeUndefined();
    await openArchiveFor(store, "main", server, { codec: writing });
    await openArchiveFor(store, "main", server, { codec: writing });
    expect(await readEncryption(store, "main")).toEqual({ number: 1, to: [recipient], since: server.createdAt });
    await expect(openArchiveFor(store, "main", server, { codec: new Codec() })).rejects.toMatchObject({
      code: "encryption-required",
      message: expect.stringContaining(recipient) as string,
    });
    const both = new Codec({ recipients: await Recipients.of([recipient, other]) });
    await openArchiveFor(store, "main", server, { codec: both });
    expect(await readEncryption(store, "main")).toMatchObject({ number: 2, to: [recipient, other] });
  });

  test("let plain data in again when an operator says so, until a writer encrypts", async () => {
    const store = new MemoryStore();
    const place = { store, folder: "main" };
    const plain = new Codec();
    await allowPlain(place, now, {});
    expect(await readEncryption(store, "main")).toBeUndefined();
    await openArchiveFor(store, "main", server, { codec: writing });
    await expect(openArchiveFor(store, "main", server, { codec: plain })).rejects.toMatchObject({
      code: "encryption-required",
      hint: expect.stringContaining(
        "with the same --store or --config: seawall cluster allow-plain --cluster main --confirm main",
      ) as string,
    });
    await allowPlain(place, now, {});
    await allowPlain(place, now, {});
    expect(await readEncryption(store, "main")).toEqual({ number: 2, to: [], since: now });
    await openArchiveFor(store, "main", server, { codec: plain });
    await openArchiveFor(store, "main", server, { codec: writing });
    expect(await readEncryption(store, "main")).toMatchObject({ number: 3, to: [recipient] });
  });

  describe("of a cluster that is upgraded", () => {
    const next = { ...server, systemIdentifier: 8n };
    const plain = new Codec();
    const plan = async (store: Store): Promise<SuccessorPlan & { readonly kind: "successor" }> => {
      const made = await planSuccessor(store, "main", next);
      if (made.kind !== "successor") throw new Error("it is declared already");
      return made;
    };

    test("go on in its new generation, which takes nothing plain", async () => {
      const store = new MemoryStore();
      await openArchiveFor(store, "main", server, { codec: writing });
      await declareSuccessor(store, await plan(store), next, { codec: plain });
      expect(await readEncryption(store, "main@2")).toEqual({ number: 1, to: [recipient], since: server.createdAt });
      await expect(openArchiveFor(store, "main", next, { codec: plain })).rejects.toMatchObject({
        code: "encryption-required",
      });
      expect((await openArchiveFor(store, "main", next, { codec: writing })).cluster).toBe("main@2");
      expect((await readEncryption(store, "main@2"))?.number).toBe(1);
    });

    test.each(
      [1, 2, 3, 4].flatMap((nth) => (["fail-before", "fail-after"] as const).map((fault) => [nth, fault] as const)),
    )(
      "are there before the declaration, also when write %i fails (%s), and the next try ends it",
      async (nth, fault) => {
        const store = new FaultyStore(new MemoryStore());
        await openArchiveFor(store, "main", server, { codec: writing });
        const first = await plan(store);
        const point = store.failpoint({ operation: "put", key: /^main(@2|\/generations)\//, nth, fault });
        await expect(declareSuccessor(store, first, next, { codec: plain })).rejects.toMatchObject({
          code: "store-unavailable",
        });
        expect(point.hits).toBe(1);
        store.heal();
        const isDeclared = (await readDeclarations(store, "main")).length > 0;
        expect(isDeclared).toBe(nth === 4 && fault === "fail-after");
        if (!isDeclared) await declareSuccessor(store, await plan(store), next, { codec: plain });
        expect(await readEncryption(store, "main@2")).toMatchObject({ number: 1, to: [recipient] });
      },
    );

    test.each([
      ["it was always plain", plain],
      ["plain data was let in again", writing],
    ])("are none where %s", async (_, codec) => {
      const store = new MemoryStore();
      await openArchiveFor(store, "main", server, { codec });
      await allowPlain({ store, folder: "main" }, now, {});
      await declareSuccessor(store, await plan(store), next, { codec: plain });
      expect(await readEncryption(store, "main@2")).toBeUndefined();
      await openArchiveFor(store, "main", next, { codec: plain });
    });
  });

  test("of two writers at the same moment are both kept", async () => {
    const store = new MemoryStore();
    const agree = async (to: string): Promise<void> =>
      agreeOnEncryption({ store, folder: "main" }, { recipients: [to], now }, {});
    await Promise.all([agree("a"), agree("b")]);
    expect((await readEncryption(store, "main"))?.number).toBe(2);
  });

  test("of writers that disagree again and again are found in few requests", async () => {
    const store = new FaultyStore(new MemoryStore());
    const folder = "main";
    for (let count = 1; count <= 40; count++) {
      await agreeOnEncryption({ store, folder }, { recipients: [`${count % 2}`], now }, {});
      store.calls.length = 0;
      expect(await readEncryption(store, folder)).toMatchObject({ number: count, to: [`${count % 2}`] });
      expect(store.calls.length).toBeLessThan(13);
    }
  });

  test("that cannot be read stop a writer", async () => {
    const store = new MemoryStore();
    await store.put("main/encryption/00000001.json", Buffer.from('{"version":1,"to":"all","since":"x"}'));
    await expect(readEncryption(store, "main")).rejects.toMatchObject({ code: "object-corrupt" });
  });
});

test("the run of a failed drill quotes no answer of the database in an encrypted archive", async () => {
  const { writer } = archives();
  const { store, cluster } = writer;
  const at = "2026-02-02T00:00:00.000Z";
  const run = {
    job: "drill",
    startedAt: at,
    finishedAt: at,
    ok: false,
    exit: 1,
    message: "drill of backup x: a canary",
  };
  const stored = async (id: string): Promise<string> => {
    await putRun(writer, { ...run, id });
    const key = (await keys(writer)).find((one) => one.includes(id)) ?? "";
    return Buffer.from((await store.get(key))?.body ?? []).toString();
  };
  expect(await stored("20260202T000000Z-00000001")).toContain("canary");
  await agreeOnEncryption({ store, folder: cluster }, { recipients: [recipient], now: at }, {});
  const document = await stored("20260202T000001Z-00000002");
  expect(document).not.toContain("canary");
  expect(document).toContain("the archive is encrypted");
});

test("a verification says to whom each stretch of WAL is encrypted", async () => {
  const { writer, plain } = archives();
  const { store, cluster } = plain;
  const other = await identityToRecipient(await generateX25519Identity());
  const both = { ...plain, codec: new Codec({ recipients: await Recipients.of([recipient, other]) }) };
  for (const [segment, archive] of [plain, plain, writer, both, both, writer].entries()) {
    const at = { ...place, segment: (segment + 1) as SegmentNumber };
    const [startLsn, endLsn] = [segmentStart(at.segment, SIZE), segmentEnd(at.segment, SIZE)];
    await putSegment(archive, at, WAL, { startLsn, endLsn, verifiedLsn: startLsn }, { confirm: true });
  }
  const verify = async (full: boolean): Promise<unknown> => {
    const progress = { begin: () => undefined, advance: () => undefined, detail: () => undefined };
    const now = (): Date => new Date("2026-11-22T10:00:00Z");
    const report = await verifyArchive(plain, { deep: false, full, jobs: 1, progress, random: 7, now });
    return report.stretches.map(({ fromLsn, toLsn, to }) => [formatLsn(fromLsn), formatLsn(toLsn), to]);
  };
  // No document says that the archive is encrypted.
  expect(await verify(true)).toEqual([]);
  await agreeOnEncryption({ store, folder: cluster }, { recipients: [recipient], now: "2026-01-01T00:00:00Z" }, {});
  expect(await verify(true)).toEqual([
    ["0/100000", "0/300000", []],
    ["0/300000", "0/400000", [recipient]],
    ["0/400000", "0/600000", [recipient, other]],
    ["0/600000", "0/700000", [recipient]],
  ]);
  expect(await verify(false)).toEqual([]);
});

test("a verification with an identity reads the changes that an earlier one without could not", async () => {
  const { writer, reader, plain } = archives();
  const settings = {
    ...{ max_connections: 100, max_worker_processes: 8, max_wal_senders: 10 },
    ...{ max_prepared_transactions: 0, max_locks_per_transaction: 64 },
  };
  const lsn = addBytes(START, SIZE + 100);
  const minimal = { kind: "parameters" as const, walLevel: "minimal" as const, settings, lsn, end: addBytes(lsn, 50) };
  const seal = async (segment: number, changes: readonly WalChange[]): Promise<void> => {
    const at = { ...place, segment: segment as SegmentNumber };
    const [startLsn, endLsn] = [segmentStart(at.segment, SIZE), segmentEnd(at.segment, SIZE)];
    const summary = {
      ...{ recordCount: 1, isRead: true, commitCount: 0, abortCount: 0, restorePoints: [], changes },
      ...{ segment: at.segment, timeline: at.timeline, lastRecordEnd: startLsn },
    };
    await putSegment(writer, at, WAL, { startLsn, endLsn, verifiedLsn: startLsn, summary }, { confirm: true });
  };
  await seal(5, []);
  await seal(6, [minimal]);
  await seal(7, []);
  let runs = 0;
  const verify = async (archive: Archive): Promise<VerifyReport> => {
    const progress = { begin: () => undefined, advance: () => undefined, detail: () => undefined };
    const now = new Date(Date.parse("2026-11-22T10:00:00Z") + 1000 * runs++);
    return verifyArchive(archive, {
      ...{ deep: false, full: false, jobs: 1, progress, random: 7, now: () => now },
    });
  };
  const looked = { segments: 3, unchangedSegments: 0 };
  const kept = { segments: 0, unchangedSegments: 3 };
  expect(await verify(plain)).toMatchObject({ ok: true, checked: looked, notes: [{ kind: "encrypted" }] });
  expect(await verify(plain)).toMatchObject({ ok: true, checked: kept });
  const found = { ok: false, problems: [{ kind: "gap", message: expect.stringContaining("wal_level") as string }] };
  expect(await verify(reader)).toMatchObject({ ...found, checked: looked });
  // The segment in front of the break is read and known; those from there on are looked at again.
  expect(await verify(reader)).toMatchObject({ ...found, checked: { segments: 2, unchangedSegments: 1 } });
  expect(await verify(plain)).toMatchObject({ checked: { segments: 2, unchangedSegments: 1 } });
  expect(await verify(plain)).toMatchObject({ checked: kept });
  expect(await verify(reader)).toMatchObject({ ...found, checked: { segments: 2, unchangedSegments: 1 } });
});

test("a plain partial in an encrypted tail does not hide the chunks behind it", async () => {
  const { writer, plain, reader } = archives();
  const raw = Buffer.alloc(SIZE);
  WAL.copy(raw, 0, 0, 500);
  const endLsn = addBytes(START, 500);
  await putPartial(plain, place, raw, { startLsn: START, endLsn, verifiedLsn: endLsn }, { confirm: true });
  await chunk(writer, 0, 1000);
  expect(await readTailEnd(writer, place)).toMatchObject({ endLsn: addBytes(START, 1000) });
  expect((await readTail(reader, place))?.bytes.equals(WAL.subarray(0, 1000))).toBe(true);
});
