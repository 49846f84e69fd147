/** The leftover of a spool: it claims no more than it is, and goes into an encrypted archive so that the next receiver can compare it. */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { openArchiveFor } from "../../src/archive/archive.ts";
import { agreeOnEncryption } from "../../src/archive/encryption.ts";
import { putClaim } from "../../src/archive/line/claims.ts";
import { findRivals } from "../../src/archive/line/rivals.ts";
import { differsFrom, readComparableTail } from "../../src/archive/wal/comparable-tail.ts";
import { putHistory } from "../../src/archive/wal/objects.ts";
import { findEnd } from "../../src/archive/wal/tip.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Journal } from "../../src/receive/journal/journal.ts";
import { storeLeftover } from "../../src/receive/journal/leftover.ts";
import { addBytes, bytesBetween, formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { filled, MIB, WalWriter } from "../wal/wal-writer.ts";
import { identityOf, openRig, recordEndBefore, TIMELINE } from "./journal-rig.ts";

const recipient = await identityToRecipient(await generateX25519Identity());
const encrypting = new Codec({ recipients: await Recipients.of([recipient]) });
const options = { detectedAt: new Date(0), signal: new AbortController().signal };

/** A spool with one open segment, and the archive of the same server. */
async function spooled(codec: Codec) {
  const writer = new WalWriter();
  for (let i = 0; i < 20; i++) writer.write({ data: filled(9_000) });
  const rig = await openRig(new MemoryDisk(), writer);
  await rig.feed(recordEndBefore(writer, writer.position), 100_000);
  await rig.settle();
  const store = new MemoryStore();
  const archive = { store, cluster: "main", identity: identityOf(writer), codec };
  const { segmentSize } = writer;
  const place = { timeline: TIMELINE, segment: segmentOf(writer.start, segmentSize), segmentSize };
  return { writer, rig, archive, place };
}

test("a receiver without an identity compares an encrypted tail that a spool has left", async () => {
  const { writer, rig, archive, place } = await spooled(encrypting);
  await storeLeftover(rig.journal, archive, options);
  const tail = await readComparableTail(archive, place);
  expect(tail?.pieces).toHaveLength(1);
  const length = bytesBetween(segmentStart(place.segment, place.segmentSize), tail?.endLsn ?? writer.start);
  const content = Buffer.from(writer.bytes.subarray(0, length));
  expect(differsFrom(tail?.pieces ?? [], content)).toBeUndefined();
  content[5_000] = (content[5_000] ?? 0) ^ 1;
  expect(differsFrom(tail?.pieces ?? [], content)).toBe(length);
  await rig.close();
});

test("a receiver with a forgotten encrypt-to leaves no plain tail of its spool in an encrypted archive", async () => {
  const { rig, archive } = await spooled(new Codec());
  const { store, cluster: folder } = archive;
  await agreeOnEncryption({ store, folder }, { recipients: [recipient], now: "2026-01-01T00:00:00.000Z" }, options);
  await expect(storeLeftover(rig.journal, archive, options)).rejects.toMatchObject({ code: "encryption-required" });
  const keys: string[] = [];
  for await (const { key } of store.list("main/tail/")) keys.push(key);
  expect(keys).toEqual([]);
  await rig.close();
});

test.each([
  { into: "plain", codec: () => new Codec() },
  { into: "encrypted", codec: () => encrypting },
])(
  "files within a record that a crash has cut are stored as WAL without an end of a record, $into",
  async ({ codec }) => {
    const writer = new WalWriter();
    writer.write({ data: filled(100) });
    const before = writer.position;
    writer.write({ data: filled(6 * MIB) });
    const disk = new MemoryDisk();
    const rig = await openRig(disk, writer);
    await rig.feed(addBytes(writer.start, 4 * MIB + 77_777), 100_000);
    await rig.settle();
    await rig.close();
    const store = new MemoryStore();
    const archive = await openArchiveFor(store, "main", identityOf(writer), { codec: codec() });
    await storeLeftover(await Journal.open(disk), archive, options);
    expect((await findEnd(archive, TIMELINE))?.lsn).toBe(before);
    // Not at all before the claim, and yet by no other server.
    const server = { server: "db2:5432", restoredFrom: undefined, claimedAt: "2026-01-01T00:00:00.000Z" };
    const parent = { timeline: TIMELINE, lsn: before };
    await putHistory(archive, timelineOf(2), Buffer.from(`1\t${formatLsn(before)}\tno recovery target specified\n`));
    await putClaim(archive, { number: 1, timeline: timelineOf(2), parent, why: "failover", over: parent, ...server });
    await storeLeftover(await Journal.open(disk), archive, options);
    expect(await findRivals(archive)).toEqual([]);
  },
);
