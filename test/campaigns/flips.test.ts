/**
 * One flipped bit on the way from the server, end to end: real WAL served by a scripted walsender with one bit changed, in
 * page headers, record headers and payloads. The receiver stops and names the place, keeps what it got as evidence,
 * acknowledges nothing past the record that was hit, and stores nothing of it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findTip } from "../../src/archive/wal/tip.ts";
import { SeawallError } from "../../src/errors.ts";
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { pageFlagsOf } from "../../src/wal/format.ts";
import { type Lsn, formatLsn, lsnOf, parseLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { type VerifiedRecord, WalVerifier } from "../../src/wal/verifier.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { receive } from "../receive/receiving.ts";
import { campaignRandom, minutes, report, roundsOnEach } from "./campaign.ts";
import { WORKLOADS, WORKLOAD_SETTINGS } from "./workloads.ts";

const PAGE = 8192;

interface Recorded {
  readonly systemIdentifier: bigint;
  readonly version: number;
  readonly segmentSize: number;
  readonly startLsn: Lsn;
  readonly bytes: Buffer;
  readonly records: readonly VerifiedRecord[];
}

/** WAL as a real server wrote it, from the start of a segment to the end of its last record. */
async function record(version: 14 | 15 | 16 | 17 | 18 | 19): Promise<Recorded> {
  await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: WORKLOAD_SETTINGS });
  const segmentSize = server.segmentSize;
  const startLsn = segmentStart(segmentOf(await server.currentFlushLsn(), segmentSize), segmentSize);
  for (const { write } of WORKLOADS.slice(0, 4)) await write(server);
  const systemIdentifier = await server.systemIdentifier();
  const end = await server.currentFlushLsn();
  const files = server
    .walFiles()
    .map((name) => readFileSync(join(server.walDir, name)))
    .filter((content) => {
      const address = content.readBigUInt64LE(8);
      return address >= startLsn && address < end;
    });
  const records: VerifiedRecord[] = [];
  const verifier = new WalVerifier({
    systemIdentifier,
    segmentSize,
    startLsn,
    history: rootHistory(timelineOf(1)),
    onRecord: (found) => records.push(found),
  });
  const bytes = Buffer.concat(files).subarray(0, Number(end - startLsn));
  verifier.push(bytes);
  return { systemIdentifier, version, segmentSize, startLsn, bytes, records };
}

type Part = "page header" | "record header" | "payload";

/** A bit of the kind wanted: its offset in the recorded bytes, and the start of the record it belongs to. */
function pickBit(wal: Recorded, part: Part, random: Random): { offset: number; record: VerifiedRecord } {
  for (;;) {
    // The first record may have begun before the recording: nothing can tell a flip in what is left of it.
    const record = random.pick(wal.records.slice(1));
    const start = Number(record.lsn - wal.startLsn);
    const end = Number(record.end - wal.startLsn);
    const pages = Math.ceil(start / PAGE);
    const headerSize = (offset: number): number => (offset % wal.segmentSize === 0 ? 40 : 24);
    switch (part) {
      case "page header": {
        // The header of a page that this record crosses into.
        if (pages * PAGE >= end || pages * PAGE === start) continue;
        // Four bytes of padding follow the fields of the long header and of the short one. No reader uses them.
        const readable = headerSize(pages * PAGE) === 40 ? 40 : 20;
        return { offset: pages * PAGE + random.between(0, readable - 1), record };
      }
      case "record header": {
        // Bytes 18 and 19 are padding inside of the header, but its CRC covers them.
        const offset = start + random.between(0, 23);
        if (offset - (offset % PAGE) > start) continue;
        return { offset, record };
      }
      case "payload": {
        if (record.length <= 24) continue;
        const offset = random.between(start + 24, Math.min(start + record.length, wal.bytes.length) - 1);
        const inPage = offset % PAGE;
        if (inPage < headerSize(offset - inPage)) continue;
        return { offset, record };
      }
    }
  }
}

async function serve(wal: Recorded, offset: number, bit: number) {
  const bytes = Buffer.from(wal.bytes);
  bytes[offset] = (bytes[offset] ?? 0) ^ (1 << bit);
  return ScriptedWalsender.start({
    systemIdentifier: wal.systemIdentifier,
    timeline: 1,
    // A receiver without a slot begins at the server's position.
    xlogpos: wal.startLsn,
    serverVersion: `${wal.version}.1`,
    settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
    stream: async (stream) => {
      const at = Number(stream.startLsn - wal.startLsn);
      await stream.sendWal(stream.startLsn, bytes.subarray(at), { messageBytes: 16 * PAGE });
    },
  });
}

describe.each(versionsUnderTest())("PostgreSQL %i: one flipped bit", (version) => {
  let recorded: Promise<Recorded> | undefined;
  test.each<{ part: Part }>([{ part: "page header" }, { part: "record header" }, { part: "payload" }])(
    "in a $part stops the receiver before it is acknowledged",
    async ({ part }) => {
      const random = campaignRandom(`flip in ${part}`, 7);
      const wal = await (recorded ??= record(version));
      const count = roundsOnEach(60, versionsUnderTest().length);
      for (let round = 0; round < count; round++) {
        const { offset, record } = pickBit(wal, part, random);
        const bit = random.between(0, 7);
        // Nothing in the WAL tells a flip of XLP_BKP_REMOVABLE (wal/page-header.ts).
        if (offset % PAGE === 2 && 1 << bit === pageFlagsOf(version).backupRemovable) continue;
        const where = `bit ${bit} of ${formatLsn(lsnOf(wal.startLsn + BigInt(offset)))}, record ${formatLsn(record.lsn)}`;
        await using sender = await serve(wal, offset, bit);
        const store = new MemoryStore();
        await using receiver = receive(sender, store, { slot: undefined, shipIntervalMs: random.pick([0, 5, 50]) });
        const error = await receiver.done.then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error, where).toBeInstanceOf(SeawallError);
        if (!(error instanceof SeawallError)) continue;
        expect(error.code, `${where}: ${error.message}`).toBe("wal-corrupt");
        const named = parseLsn(String(error.details["lsn"]));
        // A changed length is noticed at the next page at the latest, anything else at the record or its page.
        expect(named, where).toBeGreaterThanOrEqual(record.lsn - BigInt(record.lsn % BigInt(PAGE)));
        const flushed = sender.streams.map(({ flush }) => flush);
        for (const flush of flushed) expect(flush, where).toBeLessThanOrEqual(record.lsn);
        const tip = await findTip(await openRunArchive(store, "main"));
        expect(tip?.lsn ?? wal.startLsn, where).toBeLessThanOrEqual(record.lsn);
        await expectEvidence(store, wal, offset, bit, where);
        sender.rethrow();
      }
      report("flips", { version, part, count });
    },
    minutes(10),
  );
});

/** What was received of the segment is kept, the flipped bit in it, outside of the archive proper. */
async function expectEvidence(
  store: MemoryStore,
  wal: Recorded,
  offset: number,
  bit: number,
  where: string,
): Promise<void> {
  const kept: Buffer[] = [];
  for await (const { key } of store.list("main/evidence/")) {
    const found = await store.get(key);
    if (found === undefined) continue;
    const { raw } = await runCodec.decode(found.body, { key, rawBytesMax: wal.segmentSize });
    kept.push(Buffer.from(raw));
  }
  expect(kept.length, where).toBe(1);
  const inSegment = offset % wal.segmentSize;
  const evidence = kept[0];
  // A flip that is noticed only in a later segment leaves that one as evidence.
  if (evidence !== undefined && evidence.length > inSegment && evidence[inSegment] !== wal.bytes[offset]) {
    expect((evidence[inSegment] ?? 0) ^ (wal.bytes[offset] ?? 0), where).toBe(1 << bit);
  }
}
