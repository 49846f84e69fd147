/** What is kept of drills. */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { agreeOnEncryption } from "../../src/archive/encryption.ts";
import { backupFilesKey } from "../../src/archive/keys.ts";
import { readProof } from "../../src/archive/records/last-events.ts";
import { rekeyArchive } from "../../src/archive/rekey.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { type Drill, lastDrill, lastProof, putDrill } from "../../src/archive/records/drills.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { emptyArchive, NEW, putBackupDocument } from "./retained.ts";

const idOf = (n: number): string => `20260101T00${String(n).padStart(4, "0")}Z-0badcafe`;

function drillOf(n: number, ok: boolean): Drill {
  const at = "2026-01-01T00:00:00.000Z";
  return {
    ...{
      id: idOf(n),
      startedAt: at,
      finishedAt: at,
      ok,
      backup: undefined,
      timeline: undefined,
      checks: [],
      proved: [],
    },
    ...{ promisedLsn: undefined, reachedLsn: undefined, lastCommitAt: undefined },
    ...{ restoreSeconds: undefined, recoverySeconds: undefined },
  };
}

async function kept(store: MemoryStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("main/drills/")) keys.push(key.slice("main/drills/".length, -".json".length));
  return keys;
}

const archiveOf = (store: MemoryStore): Parameters<typeof putDrill>[0] => ({
  ...{ store, cluster: "main", codec: runCodec },
  identity: { systemIdentifier: 1n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" },
});

test("the newest fifty drills stay, and the last one that passed, however long ago", async () => {
  const store = new MemoryStore();
  const archive = archiveOf(store);
  for (let n = 0; n < 60; n++) await putDrill(archive, drillOf(n, n === 3 || n === 5));
  expect(await kept(store)).toEqual([idOf(5), ...Array.from({ length: 50 }, (_, i) => idOf(i + 10))]);
  expect(await lastDrill(archive, new Date())).toMatchObject({ id: idOf(59), ok: false });
  await putDrill(archive, drillOf(60, true));
  expect(await kept(store)).toEqual(Array.from({ length: 50 }, (_, i) => idOf(i + 11)));
});

test("the last proof of an identity of each recipient stays, however many drills pass without one", async () => {
  const store = new MemoryStore();
  const archive = archiveOf(store);
  const proofs = new Map([
    [1, ["a"]],
    [2, ["a", "b"]],
    [3, ["b"]],
    [4, ["b", "c"]],
  ]);
  for (let n = 0; n < 60; n++) await putDrill(archive, { ...drillOf(n, true), proved: proofs.get(n) ?? [] });
  expect(await kept(store)).toEqual([idOf(2), idOf(4), ...Array.from({ length: 50 }, (_, i) => idOf(i + 10))]);
  expect(await lastProof(archive, new Date(), ["a"])).toBeDefined();
  await putDrill(archive, { ...drillOf(60, true), proved: ["c", "b", "a"] });
  expect(await kept(store)).toEqual(Array.from({ length: 50 }, (_, i) => idOf(i + 11)));
});

test("who may not delete keeps more, and the result is stored all the same", async () => {
  const inner = new MemoryStore();
  const store = new FaultyStore(inner);
  store.failpoint({ operation: "delete", fault: "deny", times: Infinity });
  for (let n = 0; n < 52; n++) await putDrill({ ...archiveOf(inner), store }, drillOf(n, true));
  expect(await kept(inner)).toHaveLength(52);
});

test("a document that cannot be read is no drill that passed, and keeps nothing from being cleared up", async () => {
  const store = new MemoryStore();
  const archive = archiveOf(store);
  await store.put(`main/drills/${idOf(0)}.json`, Buffer.from("{"));
  await putDrill(archive, drillOf(1, true));
  for (let n = 2; n < 52; n++) await putDrill(archive, drillOf(n, false));
  expect(await kept(store)).toEqual([idOf(1), ...Array.from({ length: 50 }, (_, i) => idOf(i + 2))]);
});

test("drills dated ahead by a wrong clock neither hide later ones nor push them out", async () => {
  const store = new MemoryStore();
  const archive = archiveOf(store);
  const ahead = (n: number): Drill => ({ ...drillOf(n, true), id: idOf(n).replace("2026", "2028") });
  for (let n = 0; n < 50; n++) await putDrill(archive, ahead(n));
  await putDrill(archive, drillOf(1, false));
  await putDrill(archive, drillOf(2, false));
  const now = new Date("2026-01-01T01:00:00Z");
  expect(await lastDrill(archive, now)).toMatchObject({ id: idOf(2), ok: false });
  expect(await kept(store)).toContain(idOf(1));
});

test("a proof is the last drill that passed with an identity of these recipients", async () => {
  const archive = archiveOf(new MemoryStore());
  const proof = async (...to: string[]): Promise<string | undefined> => lastProof(archive, new Date(), to);
  const put = async (n: number, ok: boolean, ...proved: string[]): Promise<void> =>
    putDrill(archive, { ...drillOf(n, ok), finishedAt: `2026-01-01T00:00:0${n}.000Z`, proved });
  await put(1, true);
  expect(await proof("a", "b")).toBeUndefined();
  await put(2, true, "a");
  await put(3, false, "b");
  await put(4, true);
  expect(await proof("a", "b")).toBe("2026-01-01T00:00:02.000Z");
  expect(await proof("b")).toBeUndefined();
  await put(5, true, "b", "c");
  expect(await proof("a", "b")).toBe("2026-01-01T00:00:05.000Z");
});

test("a drill of an earlier version proves nothing, and one that is damaged neither", async () => {
  const store = new MemoryStore();
  const archive = archiveOf(store);
  await putDrill(archive, { ...drillOf(1, true), proved: ["a"] });
  const key = `main/drills/${idOf(1)}.json`;
  const written = JSON.parse(Buffer.from((await store.get(key))?.body ?? []).toString()) as Record<string, unknown>;
  const { proved, ...older } = written;
  expect(proved).toEqual(["a"]);
  for (const [n, document] of [older, { ...older, proved: "a" }].entries()) {
    await store.put(`main/drills/${idOf(n + 2)}.json`, Buffer.from(JSON.stringify({ ...document, id: idOf(n + 2) })));
  }
  expect(await lastDrill(archive, new Date())).toMatchObject({ id: idOf(2), proved: [] });
  expect(await lastProof(archive, new Date(), ["a"])).toBe("2026-01-01T00:00:00.000Z");
});

test("a proof counts no longer when the newest backup was given other recipients", async () => {
  const [old, fresh] = [await generateX25519Identity(), await generateX25519Identity()];
  const [was, is] = [await identityToRecipient(old), await identityToRecipient(fresh)];
  const codec = new Codec({ recipients: await Recipients.of([was]), identities: new Identities([old]) });
  const archive = { ...(await emptyArchive(new MemoryStore())), codec };
  await agreeOnEncryption(
    { store: archive.store, folder: archive.cluster },
    { recipients: [was], now: "2026-01-01T00:00:00.000Z" },
    {},
  );
  await putBackupDocument(archive, { id: NEW });
  const writer = await codec.writePlain({ signal: new AbortController().signal });
  await writer.write(Buffer.from("files"));
  writer.end();
  await archive.store.putStream(backupFilesKey(archive.cluster, NEW), writer.body());
  await putDrill(archive, { ...drillOf(1, true), proved: [was] });
  expect(await readProof(archive, new Date())).toMatchObject({ provedAt: "2026-01-01T00:00:00.000Z" });
  const rekeying = new Codec({ recipients: await Recipients.of([is]), identities: new Identities([old]) });
  expect(await rekeyArchive({ ...archive, codec: rekeying }, { isDry: false, jobs: 1 })).toMatchObject({ objects: 1 });
  expect(await readProof(archive, new Date())).toMatchObject({ to: [was], provedAt: null });
  // A drill with the new identity is a proof, though the receiver still encrypts to the old recipient.
  await putDrill(archive, { ...drillOf(2, true), proved: [is] });
  expect(await readProof(archive, new Date())).toMatchObject({ to: [was], provedAt: drillOf(2, true).finishedAt });
});
