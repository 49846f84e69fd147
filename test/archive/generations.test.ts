/** The generations of a cluster, in a store in memory: what is declared, and which one a name, a server or a moment means. */
import { describe, expect, test } from "vitest";
import { clustersIn, openArchiveFor, openArchiveOf, openFolderFor } from "../../src/archive/archive.ts";
import { type ClusterIdentity, encodeIdentity } from "../../src/archive/documents.ts";
import { type Declaration, putDeclaration, readDeclarations, readGenerations } from "../../src/archive/generations.ts";
import { declareSuccessor, obstaclesOf, planSuccessor } from "../../src/archive/successor.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";

const codec = runCodec;
const AT = "2026-11-29T18:00:00.000Z";
const server = (systemIdentifier: bigint, pgMajor: number): ClusterIdentity => ({
  systemIdentifier,
  pgMajor,
  segmentSize: 16 << 20,
  createdAt: AT,
});
const [FIRST, SECOND, THIRD, STRANGER] = [server(11n, 16), server(22n, 17), server(33n, 18), server(99n, 18)];

async function declare(store: MemoryStore, next: ClusterIdentity): Promise<void> {
  const plan = await planSuccessor(store, "main", next);
  if (plan.kind !== "successor") throw new Error("it is the newest already");
  await declareSuccessor(store, plan, next, { codec });
}

/** main with three generations, and another cluster. */
async function upgradedTwice(): Promise<MemoryStore> {
  const store = new MemoryStore();
  await openArchiveFor(store, "main", FIRST, { codec });
  await openArchiveFor(store, "orders", STRANGER, { codec });
  await declare(store, SECOND);
  await declare(store, THIRD);
  return store;
}

async function keysOf(store: MemoryStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("")) keys.push(key);
  return keys;
}

const code = (name: string): Error => expect.objectContaining({ code: name }) as Error;

describe("a cluster of three generations", () => {
  test("has a folder for each, and documents in the first one", async () => {
    const store = await upgradedTwice();
    expect(await readGenerations(store, "main")).toMatchObject([
      { number: 1, name: "main@1", folder: "main", identity: FIRST, declared: undefined },
      { number: 2, name: "main@2", folder: "main@2", identity: SECOND, declared: { generation: 2, pgMajor: 17 } },
      { number: 3, name: "main@3", folder: "main@3", identity: THIRD, declared: { generation: 3, declaredAt: AT } },
    ]);
    const document = await store.get("main/generations/00000002.json");
    expect(JSON.parse(Buffer.from(document?.body ?? []).toString())).toEqual({
      version: 1,
      generation: 2,
      systemIdentifier: "22",
      pgMajor: 17,
      declaredAt: AT,
      before: null,
    });
    expect(await clustersIn(store)).toEqual(["main", "orders"]);
    expect(await readGenerations(store, "nothing")).toEqual([]);
  });

  test.each([
    ["main", "main@3"],
    ["main@1", "main"],
    ["main@2", "main@2"],
    ["main@3", "main@3"],
    ["orders", "orders"],
    ["orders@1", "orders"],
  ])("to a reader %s is the folder %s", async (name, folder) => {
    const archive = await openRunArchive(await upgradedTwice(), name);
    expect(archive.cluster).toBe(folder);
  });

  test.each(["main@4", "orders@2", "nothing", "nothing@1"])("to a reader %s is absent", async (name) => {
    await expect(openRunArchive(await upgradedTwice(), name)).rejects.toThrowError(code("archive-absent"));
  });

  test.each([
    ["main", THIRD, "main@3"],
    ["main@3", THIRD, "main@3"],
    ["main", FIRST, "generation-ended"],
    ["main", SECOND, "generation-ended"],
    ["main@1", FIRST, "generation-ended"],
    ["main@2", THIRD, "generation-ended"],
    ["main", STRANGER, "foreign-cluster"],
    ["main@4", THIRD, "archive-absent"],
  ])("a writer of %s with this server gets its folder or an error", async (name, given, expected) => {
    const opening = openArchiveFor(await upgradedTwice(), name, given, { codec });
    const outcome = await opening.then(
      (archive) => archive.cluster,
      (error: unknown) => (error as { code: string }).code,
    );
    expect(outcome).toBe(expected);
  });

  test.each([
    ["main", FIRST, "main"],
    ["main", SECOND, "main@2"],
    ["main", THIRD, "main@3"],
    // The caller compares.
    ["main", STRANGER, "main"],
    ["main@2", THIRD, "main@2"],
  ])("a recovering server that is given %s reads its own generation", async (name, given, folder) => {
    const archive = await openArchiveOf(await upgradedTwice(), name, given.systemIdentifier);
    expect(archive.cluster).toBe(folder);
  });
});

describe("a copy of the store without a declared generation's cluster.json", () => {
  const copyWithout = async (...lost: string[]): Promise<MemoryStore> => {
    const store = await upgradedTwice();
    await store.delete(lost.map((folder) => `${folder}/cluster.json`));
    return store;
  };

  test.each([
    ["the newest generation", "main@3", THIRD],
    ["the first generation", "main", THIRD],
    ["the first generation", "main", STRANGER],
  ])("lacks %s: no writer creates it anew (%s)", async (_, lost, given) => {
    const store = await copyWithout(lost);
    const keys = await keysOf(store);
    for (const name of ["main", "main@3"]) {
      await expect(openArchiveFor(store, name, given, { codec })).rejects.toThrowError(code("object-corrupt"));
    }
    await expect(readGenerations(store, "main")).rejects.toThrowError(code("object-corrupt"));
    await expect(planSuccessor(store, "main", STRANGER)).rejects.toThrowError(code("object-corrupt"));
    expect(await keysOf(store)).toEqual(keys);
  });

  test("and without the whole folder of the first one is no first start", async () => {
    const store = await upgradedTwice();
    await store.delete((await keysOf(store)).filter((key) => key.startsWith("main/")));
    await expect(openArchiveFor(store, "main", THIRD, { codec })).rejects.toThrowError(code("object-corrupt"));
    await expect(readGenerations(store, "main")).rejects.toThrowError(code("object-corrupt"));
  });

  test.each([
    ["main@3", THIRD],
    ["main@2", SECOND],
    ["main", FIRST],
  ])("is not filled from the spool of %s", async (folder, given) => {
    const store = await copyWithout(folder);
    await expect(openFolderFor(store, folder, given, { codec })).rejects.toThrowError(code("object-corrupt"));
  });
});

test("a stranger is told to declare itself, or to take another name", async () => {
  const store = new MemoryStore();
  await openArchiveFor(store, "main", FIRST, { codec });
  await expect(openArchiveFor(store, "main", SECOND, { codec })).rejects.toThrowError(
    expect.objectContaining({
      code: "foreign-cluster",
      hint: expect.stringContaining("seawall cluster upgrade --cluster main") as string,
    }) as Error,
  );
});

describe("a declaration", () => {
  const declaration: Declaration = {
    ...{ generation: 2, systemIdentifier: 22n, pgMajor: 17, declaredAt: AT },
    before: { timeline: timelineOf(3), lsn: parseLsn("1/2345"), isShutdown: true },
  };

  test("is read as it was written, and counts once", async () => {
    const store = new MemoryStore();
    expect(await putDeclaration(store, "main", declaration)).toBe("created");
    expect(await putDeclaration(store, "main", declaration)).toBe("created");
    expect(await putDeclaration(store, "main", { ...declaration, pgMajor: 18 })).toBe("exists");
    expect(await readDeclarations(store, "main")).toEqual([declaration]);
  });

  test("of an archive that is not there is damage", async () => {
    const store = new MemoryStore();
    await openArchiveFor(store, "main", FIRST, { codec });
    await putDeclaration(store, "main", declaration);
    await expect(openRunArchive(store, "main")).rejects.toThrowError(code("object-corrupt"));
    await store.put("main@2/cluster.json", encodeIdentity(THIRD));
    await expect(openRunArchive(store, "main")).rejects.toThrowError(code("foreign-cluster"));
  });

  test.each([
    ["another number", { generation: 3 }],
    ["no identifier", { systemIdentifier: "x" }],
    ["a time that is none", { declaredAt: "yesterday" }],
    ["an end without an LSN", { before: { timeline: 1, isShutdown: true } }],
    ["an end without a timeline", { before: { timeline: 0, lsn: "0/0", isShutdown: true } }],
    ["an end that does not say how", { before: { timeline: 1, lsn: "0/0" } }],
  ])("with %s is refused", async (_, change) => {
    const store = new MemoryStore();
    const fields = { version: 1, generation: 2, systemIdentifier: "22", pgMajor: 17, declaredAt: AT, before: null };
    await store.put("main/generations/00000002.json", Buffer.from(JSON.stringify({ ...fields, ...change })));
    await expect(readDeclarations(store, "main")).rejects.toThrowError(code("object-corrupt"));
  });
});

describe("who may be declared", () => {
  test("the server of the newest generation is there already, one of an older generation never again", async () => {
    const store = await upgradedTwice();
    expect(await planSuccessor(store, "main", THIRD)).toMatchObject({ kind: "current", generation: { number: 3 } });
    await expect(planSuccessor(store, "main", FIRST)).rejects.toThrowError(code("generation-ended"));
    await expect(planSuccessor(store, "nothing", FIRST)).rejects.toThrowError(code("archive-absent"));
    expect(await planSuccessor(store, "main", STRANGER)).toMatchObject({ kind: "successor", name: "main@4" });
  });

  test("an interrupted declaration is finished by the next one; another server's folder is left alone", async () => {
    const store = new MemoryStore();
    await openArchiveFor(store, "main", FIRST, { codec });
    await openFolderFor(store, "main@2", SECOND, { codec });
    expect((await openRunArchive(store, "main")).cluster).toBe("main");
    await expect(declare(store, THIRD)).rejects.toThrowError(code("cluster-protected"));
    await declare(store, SECOND);
    expect((await openRunArchive(store, "main")).cluster).toBe("main@2");
  });

  test("of two that decide at once, one is declared", async () => {
    const store = new MemoryStore();
    await openArchiveFor(store, "main", FIRST, { codec });
    const [one, two] = [await planSuccessor(store, "main", SECOND), await planSuccessor(store, "main", THIRD)];
    if (one.kind !== "successor" || two.kind !== "successor") throw new Error("both are successors");
    await declareSuccessor(store, one, SECOND, { codec });
    await expect(declareSuccessor(store, two, THIRD, { codec })).rejects.toThrowError(code("cluster-protected"));
  });

  const before = { name: "main@1", identity: server(1n, 17) } as never;
  const end = (isShutdown: boolean) => ({ timeline: timelineOf(1), lsn: parseLsn("0/1000"), isShutdown });
  const now = new Date(AT);
  const storedMs = (secondsAgo: number): number => now.getTime() - 1000 * secondsAgo;
  test.each([
    ["after an orderly end, a newer server", { end: end(true), server: { pgMajor: 18 } }, 0],
    ["after an orderly end, one of the same version", { end: end(true), server: { pgMajor: 17 } }, 0],
    ["after an archive without WAL", { end: undefined, server: { pgMajor: 17 } }, 0],
    ["not an older server", { end: end(true), server: { pgMajor: 16 } }, 1],
    ["not while the former may still run", { end: end(false), server: { pgMajor: 18 } }, 1],
    ["for two reasons", { end: end(false), server: { pgMajor: 16 } }, 2],
  ])("%s", (_, facts, count) => {
    expect(obstaclesOf({ before, storedMs: storedMs(200), ...facts }, { now, force: false })).toHaveLength(count);
    expect(obstaclesOf({ before, storedMs: storedMs(200), ...facts }, { now, force: true })).toEqual([]);
  });

  test.each([
    ["WAL was stored a minute ago", storedMs(60), false, ["a receiver still stores WAL"]],
    ["the last WAL is two minutes old", storedMs(120), false, []],
    ["nothing was stored", undefined, false, []],
    ["the WAL of a minute ago ends with the shutdown", storedMs(60), true, []],
  ])("by force, when %s", (_, stored, isShutdown, expected) => {
    const facts = { before, end: end(isShutdown), server: { pgMajor: 16 }, storedMs: stored };
    const found = obstaclesOf(facts, { now, force: true });
    expect(found).toEqual(expected.map((text) => expect.stringContaining(text) as unknown));
  });
});
