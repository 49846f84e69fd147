/** What a verification finds in archives of a real server that were damaged on purpose, and what it does not look at twice. */
import { beforeAll, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import {
  backupDocumentKey,
  backupPartKey,
  backupPartName,
  gapKey,
  verifyPrefix,
  walPrefix,
} from "../../src/archive/keys.ts";
import { putMark } from "../../src/archive/retention/marks.ts";
import { verifyArchive, type VerifyOptions, type VerifyReport } from "../../src/archive/verify/verify.ts";
import { readVerifyRecord } from "../../src/archive/verify/state.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { segmentEnd, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { keysBelow } from "../store/keys-below.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { copyOf, type RealArchive, realArchive, replace } from "./damaged.ts";
import { damagesOf, placesOf } from "./damages.ts";

const MIB = 1 << 20;
const QUIET = { begin: () => undefined, advance: () => undefined, detail: () => undefined };

let real: RealArchive;
beforeAll(async () => {
  real = await realArchive();
}, 120_000);

let runs = 0;
function verify(archive: Archive, options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
  const atMs = Date.parse("2026-11-22T10:00:00Z") + 1000 * runs++;
  return verifyArchive(archive, {
    ...{ deep: false, full: false, jobs: 4, progress: QUIET, random: 7, now: () => new Date(atMs) },
    ...options,
  });
}

const places = placesOf(() => real);
const { first, second, part, keyOf, between } = places;

test("an untouched archive is good, and every part of it was looked at", async () => {
  const { archive, store } = await copyOf(real.objects);
  const sealed = (await keysBelow(store, walPrefix("main"))).filter((key) => key.endsWith(".zst"));
  const needed = sealed.filter((key) => key >= keyOf(segmentOf(real.backups[0].startLsn, MIB)));
  const parts = real.backups.reduce((sum, backup) => sum + backup.parts.length, 0);
  const shallow = await verify(archive);
  expect(shallow).toMatchObject({ ok: true, problems: [], notes: [] });
  expect(shallow.checked).toMatchObject({
    segments: needed.length,
    tails: 1,
    backups: 2,
    parts,
    readBytes: 0,
    files: 0,
  });
  const deep = await verify(archive, { deep: true });
  expect(deep).toMatchObject({ ok: true, problems: [], notes: [] });
  const files = real.backups.flatMap((backup) => backup.parts).reduce((sum, part) => sum + part.files, 0);
  expect(deep.checked).toMatchObject({ segments: needed.length, backups: 2, parts, files });
  expect(deep.checked.records).toBeGreaterThan(5000);
});

describe.each(damagesOf(places))("$name", ({ name, damage, shallow, finds }) => {
  // What listing finds of backups is found by the same code with --deep.
  const modes = shallow && !/segment|chunk|gap/.test(name) ? [false] : [false, true];
  test.each(modes)("is found, or not, with deep %s", async (deep) => {
    const { archive, store } = await copyOf(real.objects);
    await damage(store);
    const { ok, problems } = await verify(archive, { deep });
    const expected = deep || shallow ? finds() : [];
    expect(problems.map(({ kind }) => kind)).toEqual(expected.map(([kind]) => kind));
    for (const [index, [, object, message]] of expected.entries()) {
      expect(problems[index]?.object).toContain(object);
      expect(problems[index]?.message).toMatch(message);
    }
    expect(ok).toBe(expected.length === 0);
  });
});

test("a gap that a newer backup covers is a note in the past tense", async () => {
  const { archive, store } = await copyOf(real.objects);
  await damagesOf(places)
    .find(({ name }) => name === "a gap that a newer backup covers")
    ?.damage(store);
  const { ok, notes } = await verify(archive, { deep: false });
  expect(ok).toBe(true);
  const { id, finishedAt } = real.backups[1];
  expect(notes).toMatchObject([
    {
      kind: "gap",
      message: expect.stringMatching(
        `slot lost: unreachable: .* to ${finishedAt}; everything since ${finishedAt} is recoverable with backup ${id}$`,
      ) as unknown,
    },
  ]);
  expect((await readVerifyRecord(archive)).record?.last).toMatchObject({ ok: true, problems: 0, gaps: 0 });
});

test("what a failed backup left behind, and parts that no backup knows, are noted and no problem", async () => {
  const { archive, store } = await copyOf(real.objects);
  const unfinished = "20260203T040506Z-0badcafe";
  await store.put(backupPartKey("main", unfinished, backupPartName(1)), Buffer.from("x"));
  const orphan = backupPartKey("main", first().id, backupPartName(99));
  await store.put(orphan, Buffer.from("x"));
  const { ok, notes } = await verify(archive, { deep: true });
  expect(ok).toBe(true);
  expect(notes.map(({ kind, object }) => [kind, object])).toEqual([
    ["unknown-object", orphan],
    ["unfinished-backup", unfinished],
  ]);
});

test("what an expiry could not remove of a backup is noted as such, not as a backup that is being taken", async () => {
  const { archive, store } = await copyOf(real.objects);
  const removed = "20260203T040506Z-0badcafe";
  await store.put(backupPartKey("main", removed, backupPartName(1)), Buffer.from("x"));
  await putMark(archive, removed, new Date());
  const { ok, notes } = await verify(archive);
  expect(ok).toBe(true);
  expect(notes).toEqual([
    {
      kind: "unfinished-backup",
      object: removed,
      message:
        "a backup that an expiry or seawall delete has begun to remove: the next expiry removes what is left, where the store allows it",
    },
  ]);
});

test("an archive without backups is verified from its first segment on", async () => {
  const { archive, store } = await copyOf(real.objects);
  await store.delete(await keysBelow(store, "main/backups/"));
  const before = await verify(archive);
  expect(before).toMatchObject({ ok: true, checked: { backups: 0 } });
  await store.delete([keyOf(between())]);
  const { problems } = await verify(archive);
  expect(problems).toMatchObject([
    { kind: "missing-wal", message: expect.stringMatching(/no backup needs it$/) as string },
  ]);
});

describe("a second verification", () => {
  test("looks only at what is new or was touched", async () => {
    const { archive, store } = await copyOf(real.objects);
    const last = (await keysBelow(store, walPrefix("main"))).at(-1) ?? "";
    const body = (await store.get(last))?.body ?? Buffer.alloc(0);
    await store.delete([last]);
    const one = await verify(archive);
    const again = await verify(archive);
    expect(again.checked).toMatchObject({ segments: 0, backups: 0, unchangedBackups: 2 });
    expect(again.checked.unchangedSegments).toBe(one.checked.segments);
    await store.put(last, body);
    expect((await verify(archive)).checked).toMatchObject({ segments: 1, backups: 0 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    await replace(store, part(), (same) => same);
    expect((await verify(archive)).checked).toMatchObject({ segments: 0, backups: 1, unchangedBackups: 1 });
  });

  test("reads what was not read before, and what was read is good for either kind", async () => {
    const { archive } = await copyOf(real.objects);
    const { segments } = (await verify(archive)).checked;
    expect((await verify(archive, { deep: true })).checked).toMatchObject({
      segments,
      backups: 2,
      unchangedBackups: 0,
    });
    for (const deep of [false, true]) {
      expect((await verify(archive, { deep })).checked).toMatchObject({ segments: 0, backups: 0, readBytes: 0 });
    }
    expect((await verify(archive, { full: true })).checked).toMatchObject({ segments, backups: 2 });
  });

  test("finds again what is damaged, as long as it is", async () => {
    const { archive, store } = await copyOf(real.objects);
    await replace(store, keyOf(between()), (body) => body.subarray(0, 50));
    await store.delete([part()]);
    const kinds = ["damaged-backup", "damaged-wal"];
    for (let run = 0; run < 2; run++) {
      expect((await verify(archive)).problems.map(({ kind }) => kind)).toEqual(kinds);
    }
    expect((await readVerifyRecord(archive)).record?.last).toMatchObject({ ok: false, problems: 2, deep: false });
    for (const key of [keyOf(between()), part()]) {
      await store.delete([key]);
      await store.put(key, real.objects.get(key) ?? Buffer.alloc(0));
    }
    expect(await verify(archive)).toMatchObject({ ok: true });
    expect((await readVerifyRecord(archive)).record?.last).toMatchObject({ ok: true, problems: 0 });
  });

  test("goes on where an interrupted one was, and one document is all that is kept", async () => {
    const { archive, store } = await copyOf(real.objects);
    const stop = new AbortController();
    const detail = (text: string): void => void (text === "backups" && stop.abort());
    const interrupted = verify(archive, { deep: true, progress: { ...QUIET, detail }, signal: stop.signal });
    await expect(interrupted).rejects.toMatchObject({ code: "aborted" });
    expect((await readVerifyRecord(archive)).record?.last).toBeNull();
    expect((await verify(archive, { deep: true })).checked).toMatchObject({ segments: 0, backups: 2 });
    expect(await keysBelow(store, verifyPrefix("main"))).toHaveLength(1);
  });

  test("counts although the clock was set back", async () => {
    const { archive, store } = await copyOf(real.objects);
    await verify(archive, { now: () => new Date("2030-01-01T00:00:00Z") });
    const { segments } = (await verify(archive, { deep: true, now: () => new Date("2026-01-01T00:00:00Z") })).checked;
    expect((await verify(archive, { deep: true })).checked).toMatchObject({ segments: 0, unchangedSegments: segments });
    expect(await keysBelow(store, verifyPrefix("main"))).toHaveLength(1);
  });

  test("does without a record that cannot be read, and says so", async () => {
    const { archive, store } = await copyOf(real.objects);
    await verify(archive);
    const [key = ""] = await keysBelow(store, verifyPrefix("main"));
    await replace(store, key, () => Buffer.from("{}"));
    const { ok, notes, checked } = await verify(archive);
    expect(ok).toBe(true);
    expect(notes).toMatchObject([{ kind: "verify-state", object: key }]);
    expect(checked.backups).toBe(2);
  });
});

test("an archive that only has its identity is called empty", async () => {
  const { archive } = await copyOf(new Map([...real.objects].filter(([key]) => key === "main/cluster.json")));
  expect(await verify(archive)).toMatchObject({ ok: true, notes: [{ kind: "empty-archive", object: "main" }] });
});

test("a segment that is sealed while the archive is listed is no hole", async () => {
  const { archive, store } = await copyOf(real.objects);
  const key = keyOf(between());
  const body = real.objects.get(key) ?? Buffer.alloc(0);
  await store.delete([key]);
  const late = new Proxy(store, {
    get(target, property) {
      if (property === "head") {
        return async (asked: string) => {
          if (asked === key) await target.put(key, body);
          return target.head(asked);
        };
      }
      const value: unknown = Reflect.get(target, property);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  expect(late).toBeInstanceOf(MemoryStore);
  expect(await verify({ ...archive, store: late })).toMatchObject({ ok: true, problems: [] });
  expect((await store.head(key))?.bytes).toBe(body.length);
});

test("what an expiry removes beside a verification is not missed", async () => {
  const { archive, store } = await copyOf(real.objects);
  const early = segmentOf(first().startLsn, MIB);
  const gone = [...Array(segmentOf(second().startLsn, MIB) - early).keys()].map((i) => keyOf(early + i));
  // After the first segment was read: the next one is on its way, and gone.
  let expiry: Promise<void> | undefined;
  const advance = (): void => {
    expiry ??= store.delete([backupDocumentKey("main", first().id), ...gone]);
  };
  const { ok, problems, checked } = await verify(archive, { deep: true, progress: { ...QUIET, advance } });
  await expiry;
  expect(checked.segments).toBeGreaterThan(gone.length);
  expect([ok, problems]).toEqual([true, []]);
});

test("a gap that no backup has to pass is noted", async () => {
  const { archive, store } = await copyOf(real.objects);
  await store.delete([backupDocumentKey("main", first().id)]);
  const [from, to] = [segmentStart(between(), MIB), segmentEnd(between(), MIB)];
  const gap = { timeline: first().timeline, fromLsn: from, toLsn: to, detectedAt: "2026-11-22", reason: "slot lost" };
  await store.put(gapKey("main", gap.timeline, from, to), encodeGap(gap));
  const { ok, notes } = await verify(archive);
  expect(ok).toBe(true);
  expect(notes.map(({ kind }) => kind)).toEqual(["gap", "unfinished-backup"]);
  expect(notes[0]?.message).toMatch(/slot lost: no backup needs it$/);
});

test("a store that fails is an error and no finding", async () => {
  const { archive, store } = await copyOf(real.objects);
  const failing = new FaultyStore(store);
  failing.failpoint({ operation: "get", key: keyOf(between()), fault: "fail-before", times: Infinity });
  await expect(verify({ ...archive, store: failing })).rejects.toMatchObject({ code: "store-unavailable" });
});
