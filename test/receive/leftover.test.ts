/** The leftover of a spool goes into an archive that is encrypted: nothing plain, and so that the next receiver can compare it. */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { agreeOnEncryption } from "../../src/archive/encryption.ts";
import { differsFrom, readComparableTail } from "../../src/archive/wal/comparable-tail.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { storeLeftover } from "../../src/receive/journal/leftover.ts";
import { bytesBetween, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { filled, WalWriter } from "../wal/wal-writer.ts";
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
