/** New headers for the objects of an archive in memory: what gets one, what is left, and what faults of the store do. */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { backupDocumentKey, backupFilesKey, backupManifestKey, segmentKey } from "../../src/archive/keys.ts";
import { type Rekeyed, rekeyArchive } from "../../src/archive/rekey.ts";
import { putChunk, putSegment, readSegment, storeEncoded, encodeSegment } from "../../src/archive/wal/objects.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { decodeClear, encodeClear } from "../../src/codec/age/clear-envelope.ts";
import { digestOf } from "../../src/codec/age/digest.ts";
import { encodeHeader, encodeMac, textBehindFirst } from "../../src/codec/age/header.ts";
import { headerOf } from "../../src/codec/age/open.ts";
import { SeawallError } from "../../src/errors.ts";
import { withRetry } from "../../src/store/retry.ts";
import type { GetOptions, Store } from "../../src/store/store.ts";
import { type SegmentNumber, addBytes, segmentEnd, segmentStart } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newArchive, place, SIZE } from "./tail-archive.ts";

const [old, fresh, other] = [
  await generateX25519Identity(),
  await generateX25519Identity(),
  await generateX25519Identity(),
];
const recipientsOf = async (...identities: readonly string[]): Promise<Recipients> =>
  Recipients.of(await Promise.all(identities.map(identityToRecipient)));
const codecOf = async (to: readonly string[], ...identities: readonly string[]): Promise<Codec> =>
  new Codec({ recipients: await recipientsOf(...to), identities: new Identities(identities) });
const [writing, rekeying, reading] = [
  await codecOf([old]),
  await codecOf([fresh, other], old),
  await codecOf([fresh], fresh),
];

const WAL = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at++) WAL[at] = (at * 7 + (at >> 8)) & 0xff;
const BACKUP = "20260203T040506Z-0badcafe";
const UNFINISHED = "20260204T040506Z-0badcafe";
const at = (number: number): typeof place => ({ ...place, segment: (place.segment + number) as SegmentNumber });
const factsOf = (number: number) => {
  const { segment } = at(number);
  const [startLsn, endLsn] = [segmentStart(segment, SIZE), segmentEnd(segment, SIZE)];
  return { startLsn, endLsn, verifiedLsn: endLsn };
};

async function stream(codec: Codec, content: string): Promise<Uint8Array> {
  const writer = await codec.writePlain({ signal: new AbortController().signal });
  await writer.write(Buffer.from(content));
  writer.end();
  const pieces: Uint8Array[] = [];
  for await (const piece of writer.body()) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Three segments, chunks of a segment that never became full and of the open one, a backup, and one that is being taken. */
async function filled(store: Store): Promise<Archive> {
  const archive = newArchive(store, SIZE, writing);
  const { cluster } = archive;
  for (const number of [0, 1, 2]) await putSegment(archive, at(number), WAL, factsOf(number), { confirm: true });
  for (const number of [5, 9]) {
    const startLsn = segmentStart(at(number).segment, SIZE);
    const endLsn = addBytes(startLsn, 1000);
    const facts = { startLsn, endLsn, verifiedLsn: endLsn, digest: digestOf(WAL.subarray(0, 1000)) };
    await putChunk(archive, at(number), 0, WAL.subarray(0, 1000), facts, { confirm: true });
  }
  await store.put(backupManifestKey(cluster, BACKUP), await stream(writing, "the manifest"));
  await store.put(backupFilesKey(cluster, BACKUP), await stream(new Codec(), "plain"));
  await store.put(backupDocumentKey(cluster, BACKUP), Buffer.from("{}"));
  await store.put(backupManifestKey(cluster, UNFINISHED), await stream(writing, "the manifest"));
  return archive;
}

const rekey = async (
  archive: Archive,
  options: Partial<Parameters<typeof rekeyArchive>[1]> = {},
  codec = rekeying,
): Promise<Rekeyed> => rekeyArchive({ ...archive, codec }, { isDry: false, jobs: 2, ...options });

async function contents(store: Store): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for await (const { key } of store.list("")) found.set(key, Buffer.from((await store.get(key))?.body ?? []));
  return found;
}

const ALL = { objects: 5, already: 0, plain: 1, open: 1, unfinished: 1, gone: 0, locked: [], cold: [], damaged: [] };

describe("rekey", () => {
  test("gives segments, settled chunks and finished backups a new header, and counts the rest", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    expect(await rekey(archive)).toMatchObject(ALL);
    expect((await readSegment({ ...archive, codec: reading }, at(1)))?.raw.equals(WAL)).toBe(true);
    await expect(readSegment({ ...archive, codec: await codecOf([old], old) }, at(1))).rejects.toMatchObject({
      code: "identity-missing",
    });
    expect(await rekey(archive)).toMatchObject({ ...ALL, objects: 0, already: 5 });
  });

  test("of one backup leaves all else as it is", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const before = await contents(store);
    expect(await rekey(archive, { backup: BACKUP })).toMatchObject({ ...ALL, objects: 1, open: 0, unfinished: 0 });
    const after = await contents(store);
    const changed = [...after].filter(([key, bytes]) => before.get(key)?.equals(bytes) !== true);
    expect(changed.map(([key]) => key)).toEqual([backupManifestKey(archive.cluster, BACKUP)]);
  });

  test("as a dry run says the same, and changes nothing", async () => {
    const store = new FaultyStore(new MemoryStore());
    const archive = await filled(store);
    const before = await contents(store);
    store.calls.length = 0;
    expect(await rekey(archive, { isDry: true })).toMatchObject(ALL);
    expect(new Set(store.calls.map(({ operation }) => operation))).toEqual(new Set(["list", "get"]));
    expect(await contents(store)).toEqual(before);
  });

  test("with an identity of others names every object that it does not open, and does the rest", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const theirs = newArchive(store, SIZE, await codecOf([other]));
    await putSegment(theirs, at(3), WAL, factsOf(3), { confirm: true });
    const damagedKey = segmentKey(archive.cluster, at(4));
    await putSegment(archive, at(4), WAL, factsOf(4), { confirm: true });
    const whole = Buffer.from((await store.get(damagedKey))?.body ?? []);
    await store.delete([damagedKey]);
    await store.put(damagedKey, whole.subarray(0, -1));
    const done = await rekey(archive);
    expect(done).toMatchObject({
      ...ALL,
      locked: [{ key: segmentKey(archive.cluster, at(3)) }],
      damaged: [{ key: damagedKey }],
    });
    expect((await store.get(damagedKey))?.body.byteLength).toBe(whole.byteLength - 1);
  });

  test("an object whose payload was changed keeps its header, wherever the change is", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const key = backupManifestKey(archive.cluster, BACKUP);
    const whole = Buffer.from((await store.get(key))?.body ?? []);
    const payload = whole.indexOf("\n", whole.indexOf("\n---") + 1) + 1;
    for (const place of [payload, payload + 16, whole.byteLength - 1]) {
      const changed = Buffer.from(whole);
      changed.writeUInt8((changed.readUInt8(place) ^ 0x40) & 0xff, place);
      await store.delete([key]);
      await store.put(key, changed);
      expect(await rekey(archive, { backup: BACKUP })).toMatchObject({ objects: 0, damaged: [{ key }] });
      expect(changed.equals((await store.get(key))?.body ?? Buffer.alloc(0))).toBe(true);
    }
  });

  test("an object that only claims to be encrypted to the new recipients is damaged", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const key = segmentKey(archive.cluster, at(1));
    const whole = Buffer.from((await store.get(key))?.body ?? []);
    const header = headerOf(whole, key);
    const clear = decodeClear(whole, key);
    const stanzas = Buffer.from(textBehindFirst(header));
    // The length of the header follows from the names.
    const forge = (headerBytes: number): Buffer =>
      Buffer.concat([
        encodeHeader([encodeClear({ ...clear, to: rekeying.recipients ?? [], headerBytes }), stanzas]),
        encodeMac(header.mac),
      ]);
    const forged = Buffer.concat([forge(forge(0).byteLength), whole.subarray(header.byteLength)]);
    await store.delete([key]);
    await store.put(key, forged);
    const both = await codecOf([fresh, other], old, fresh);
    expect(await rekey(archive, {}, both)).toMatchObject({ ...ALL, objects: 4, damaged: [{ key }] });
  });

  test("an object in a storage class that cannot be read is named, and the rest is done", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const key = segmentKey(archive.cluster, at(1));
    const get = store.get.bind(store);
    store.get = async (asked: string, options?: GetOptions) => {
      if (asked !== key) return get(asked, options);
      const details = { s3Code: "InvalidObjectState" };
      throw new SeawallError("store-denied", `get ${key}: InvalidObjectState`, { details });
    };
    expect(await rekey(archive)).toMatchObject({ ...ALL, objects: 4, cold: [{ key }] });
  });

  test("an answer that was lost is looked at before the header is replaced again", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = await filled(faulty);
    const key = segmentKey(archive.cluster, at(1));
    faulty.failpoint({ operation: "replaceFront", key, fault: "fail-after" });
    const store = withRetry(faulty, { random: () => 0 });
    expect(await rekey({ ...archive, store })).toMatchObject(ALL);
    expect(faulty.calls.filter((call) => call.operation === "replaceFront" && call.key === key)).toHaveLength(2);
    expect((await readSegment({ ...archive, codec: reading }, at(1)))?.raw.equals(WAL)).toBe(true);
  });

  test("cut off at any request, it goes on where it was", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = await filled(faulty);
    let failures = 0;
    for (let nth = 1; ; nth++) {
      const point = faulty.failpoint({ nth, fault: nth % 2 === 0 ? "fail-before" : "fail-after" });
      const done = await rekey(archive, { jobs: 1 }).catch(() => undefined);
      point.remove();
      for (const number of [0, 1, 2]) {
        const both = await codecOf([fresh], fresh, old);
        expect((await readSegment({ ...archive, codec: both }, at(number)))?.raw.equals(WAL)).toBe(true);
      }
      if (done !== undefined) break;
      failures++;
    }
    expect(failures).toBeGreaterThan(5);
    expect(await rekey(archive)).toMatchObject({ ...ALL, objects: 0, already: 5 });
  });

  test("two at once end with every object whole and to the same recipients", async () => {
    const store = new MemoryStore();
    const archive = await filled(store);
    const [a, b] = await Promise.all([rekey(archive), rekey(archive)]);
    expect(a.objects + b.objects).toBeGreaterThanOrEqual(5);
    expect(await rekey(archive)).toMatchObject({ ...ALL, objects: 0, already: 5 });
    expect((await readSegment({ ...archive, codec: reading }, at(2)))?.raw.equals(WAL)).toBe(true);
  });

  test("a part whose backup expires meanwhile does not come back", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = await filled(faulty);
    const key = backupManifestKey(archive.cluster, BACKUP);
    const late = faulty.failpoint({ operation: "replaceFront", key, fault: "late" });
    const rekeyed = rekey(archive);
    await late.reached;
    // An expiry removes the document first. The part it has removed is there again, as on a store without conditions.
    await faulty.delete([backupDocumentKey(archive.cluster, BACKUP)]);
    late.release();
    expect(await rekeyed).toMatchObject({ ...ALL, objects: 4, gone: 1 });
    expect(await faulty.head(key)).toBeUndefined();
  });

  test("a store that says it has replaced a header and has not is found out", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = await filled(faulty);
    faulty.failpoint({ operation: "replaceFront", fault: "lie" });
    await expect(rekey(archive)).rejects.toMatchObject({ code: "store-lied" });
  });

  test("a store that loses the end of a backup's part behind its new header is found out at once", async () => {
    const inner = new MemoryStore();
    const archive = await filled(inner);
    const key = backupManifestKey(archive.cluster, BACKUP);
    const faulty = new FaultyStore(inner);
    faulty.failpoint({ operation: "replaceFront", key, fault: "truncate" });
    await expect(rekey({ ...archive, store: faulty }, { jobs: 1 })).rejects.toMatchObject({
      code: "store-lied",
      message: expect.stringContaining(key) as unknown,
    });
  });

  test("a segment that is rekeyed before its writer confirms it is still the writer's own", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = await filled(faulty);
    const stall = faulty.failpoint({ operation: "head", key: segmentKey(archive.cluster, at(3)), fault: "stall" });
    const encoded = await encodeSegment(archive, at(3), WAL, factsOf(3));
    const storing = storeEncoded(archive, encoded, { confirm: true });
    await stall.reached;
    expect(await rekey(archive)).toMatchObject({ ...ALL, objects: 6 });
    stall.release();
    expect((await storing).result).toBe("created");
  });
});
