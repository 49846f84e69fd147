/** The journal of a spool: what a crash at any moment, a cut at any byte, a flipped bit and a failing disk leave of it. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { FileDisk } from "../../src/receive/journal/disk.ts";
import { GATHER_BYTES } from "../../src/receive/journal/group.ts";
import { Journal } from "../../src/receive/journal/journal.ts";
import { diskSpaceOf } from "../../src/receive/spool-dir.ts";
import { addBytes, formatLsn, type Lsn, lsnOf, maxLsn, minLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { announcedRandom, type Random } from "../harness/random.ts";
import { filled, MIB, toSegmentEnd, WalWriter } from "../wal/wal-writer.ts";
import { openRig, recordEndBefore, type Rig, stream, TIMELINE } from "./journal-rig.ts";

/** Three segments: small records, one that crosses a border, a switch, and the beginning of an open segment. */
function someWal(): WalWriter {
  const writer = new WalWriter();
  for (let i = 0; i < 200; i++) writer.write({ data: filled(100 + (i % 7)) });
  toSegmentEnd(writer, 64);
  writer.write({ data: filled(30_001) });
  for (let i = 0; i < 50; i++) writer.write({ data: filled(9_000) });
  writer.switchSegment();
  for (let i = 0; i < 20; i++) writer.write({ data: filled(60) });
  return writer;
}

function openFileOf(writer: WalWriter): string {
  const segment = Math.floor(Number(writer.position) / MIB) as never;
  return `${segmentFileName(TIMELINE, segment, MIB)}.partial`;
}

/** What the files hold up to the tip is what the server sent. */
async function expectWal(journal: Journal, writer: WalWriter): Promise<void> {
  const { tip } = journal;
  if (tip === undefined) return;
  for (const { segment, isComplete } of journal.segments) {
    const start = Number(BigInt(segment) * BigInt(MIB) - writer.start);
    const end = isComplete ? start + MIB : Math.min(start + MIB, Number(tip.lsn - writer.start));
    if (end <= start) continue;
    const content = Buffer.alloc(end - start);
    const file = await journal.openToRead(TIMELINE, segment);
    await file?.read(content, 0);
    expect(Buffer.compare(content, writer.bytes.subarray(start, end))).toBe(0);
  }
}

async function filledDisk(writer: WalWriter): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(writer.position, 8192);
  expect(await rig.settle()).toBe(true);
  expect(rig.intake.storedLsn).toBe(writer.position);
  await rig.close();
  return disk;
}

test("a power cut between any two operations of the disk, and inside any write, loses nothing that was acknowledged", async () => {
  const random = announcedRandom("journal power cut", 21);
  const writer = someWal();
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  const cuts: { readonly what: string; readonly left: MemoryDisk; readonly acknowledged: Lsn }[] = [];
  disk.before = (what, write) => {
    const acknowledged = rig.intake.storedLsn;
    for (let kept = 0; kept <= disk.volatileNames; kept++) {
      const left = disk.afterPowerCut(kept);
      cuts.push({ what, left, acknowledged });
      if (write === undefined || left.contentOf(write.name) === undefined) continue;
      const torn = disk.afterPowerCut(kept);
      tear(torn, write, random);
      cuts.push({ what: `${what}, torn`, left: torn, acknowledged });
    }
  };
  for (let at = 0; at < Number(writer.position - writer.start); at += 90_000) {
    await rig.feed(minLsn(addBytes(writer.start, at), writer.position), 20_000);
    await rig.settle();
    if (at > MIB) await rig.journal.confirm({ timeline: TIMELINE, lsn: rig.intake.storedLsn });
  }
  await rig.feed(writer.position, 20_000);
  await rig.settle();
  await rig.journal.confirm({ timeline: TIMELINE, lsn: rig.intake.storedLsn });
  await rig.close();
  expect(cuts.length).toBeGreaterThan(100);
  for (const { what, left, acknowledged } of cuts) {
    const journal = await Journal.open(left);
    expect((journal.tip?.lsn ?? writer.start) >= acknowledged, `${what}: ${acknowledged}`).toBe(true);
    await expectWal(journal, writer);
    const again = await openRig(left, writer);
    await again.feed(writer.position, 50_000);
    expect(await again.settle(), what).toBe(true);
    expect(again.intake.storedLsn).toBe(writer.position);
    await expectWal(again.journal, writer);
    await again.close();
  }
}, 120_000);

/** Some sectors of a write are there. */
function tear(
  disk: MemoryDisk,
  { name, bytes, at }: { name: string; bytes: Uint8Array; at: number },
  random: Random,
): void {
  const content = disk.contentOf(name);
  for (let from = 0; from < bytes.length; from += 512) {
    if (random.chance(0.5)) content?.set(bytes.subarray(from, from + 512), at + from);
  }
}

test("an open file that is cut at any byte is replayed to the end of the last record before", async () => {
  const writer = someWal();
  const disk = await filledDisk(writer);
  const name = openFileOf(writer);
  const whole = Buffer.from(disk.contentOf(name) ?? []);
  const start = addBytes(writer.start, 2 * MIB);
  const length = Number(writer.position - start);
  for (let cut = 0; cut <= length; cut++) {
    const content = disk.contentOf(name);
    content?.fill(0x7f);
    whole.copy(content ?? Buffer.alloc(0), 0, 0, cut);
    const journal = await Journal.open(disk);
    expect(journal.tip?.lsn, `cut at ${cut}`).toBe(maxLsn(start, recordEndBefore(writer, addBytes(start, cut))));
  }
});

test("a flipped bit ends what is replayed at the record before it", async () => {
  const random = announcedRandom("journal flips", 22);
  const writer = someWal();
  const disk = await filledDisk(writer);
  const content = disk.contentOf(openFileOf(writer));
  const start = addBytes(writer.start, 2 * MIB);
  for (let i = 0; i < 300; i++) {
    // Past the page header, of which one bit may be either way.
    const at = random.between(40, Number(writer.position - start) - 1);
    const bit = 1 << random.between(0, 7);
    if (content === undefined) throw new Error("no open file");
    content[at] = (content[at] ?? 0) ^ bit;
    const journal = await Journal.open(disk);
    content[at] = (content[at] ?? 0) ^ bit;
    expect(journal.tip?.lsn, `byte ${at}`).toBe(maxLsn(start, recordEndBefore(writer, addBytes(start, at))));
  }
});

test("a flipped bit in a complete file is no end of WAL: the start is refused", async () => {
  const writer = someWal();
  const disk = await filledDisk(writer);
  const content = disk.contentOf(segmentFileName(TIMELINE, 2 as never, MIB));
  if (content === undefined) throw new Error("no complete file");
  content[50_000] = (content[50_000] ?? 0) ^ 1;
  await expect(Journal.open(disk)).rejects.toMatchObject({ code: "wal-corrupt" });
});

test("WAL of an older segment in a file that is used again is never taken for new WAL", async () => {
  const writer = someWal();
  const disk = new MemoryDisk();
  const old = new WalWriter({ start: lsnOf(0n) });
  for (let i = 0; i < 300; i++) old.write({ data: filled(100 + (i % 7)) });
  toSegmentEnd(old, 0);
  await disk.allocate("spare-0", MIB);
  disk.contentOf("spare-0")?.set(old.bytes);
  const again = await openRig(disk, writer);
  const part = writer.records[30]?.end ?? writer.position;
  await again.feed(part, 1000);
  await again.settle();
  expect((await Journal.open(disk)).tip?.lsn).toBe(part);
  await again.close();
});

test("a file of the timeline that a failover left is not used again for the new one: its records would follow", async () => {
  const old = new WalWriter();
  for (let i = 0; i < 200; i++) old.write({ data: filled(100) });
  for (let i = 0; i < 400; i++) old.write({ data: filled(9_000) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, old);
  await rig.feed(old.position, 8192);
  await rig.settle();
  await rig.journal.confirm({ timeline: TIMELINE, lsn: old.position });
  await rig.close();
  const { journal } = rig;
  const switchLsn = old.records[20]?.end ?? old.start;
  const timeline = timelineOf(2);
  const history = Buffer.from(`1\t${formatLsn(switchLsn)}\tno recovery target specified\n`);
  await journal.putHistories(new Map([[timeline, history]]));
  await journal.begin({ timeline, segment: segmentOf(old.start, MIB), storedLsn: switchLsn });
  await (await journal.openSegment()).close();
  const { tip } = await Journal.open(disk);
  expect(tip).toMatchObject({ timeline: TIMELINE, lsn: old.position });
  // The open file of the old timeline lies past the place where the new one goes on.
  journal.noteShipped(TIMELINE);
  await journal.confirm({ timeline, lsn: switchLsn });
  const spares = disk.names.filter((name) => name.startsWith("spare-"));
  expect(spares.filter((name) => disk.contentOf(name)?.some((byte) => byte !== 0) === true)).toEqual([]);
  expect(journal.segments.map((file) => file.timeline)).toEqual([TIMELINE, timeline]);
});

test("a record longer than both buffers is acknowledged as a whole, and survives a restart in its middle", async () => {
  const writer = new WalWriter();
  writer.write({ data: filled(100) });
  const before = writer.position;
  writer.write({ data: filled(2 * GATHER_BYTES + 1000) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(addBytes(writer.start, GATHER_BYTES + 77_777), 100_000);
  await rig.settle();
  expect(rig.intake.storedLsn).toBe(before);
  await rig.close();
  const again = await openRig(disk, writer);
  await again.feed(writer.position, 100_000);
  await again.settle();
  expect(again.intake.storedLsn).toBe(writer.position);
  await expectWal(again.journal, writer);
  await again.close();
});

test("a restart within a record that is longer than several files says where the last complete record ended", async () => {
  const writer = new WalWriter();
  writer.write({ data: filled(100) });
  const before = writer.position;
  writer.write({ data: filled(5 * MIB) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(addBytes(writer.start, 4 * MIB + 77_777), 100_000);
  await rig.settle();
  await rig.close();
  const again = await openRig(disk, writer);
  expect(again.intake.storedLsn).toBe(before);
  await again.feed(writer.position, 100_000);
  await again.settle();
  expect(again.intake.storedLsn).toBe(writer.position);
  await again.close();
});

/** A journal of `files` complete files and an open one, all but the beginning being one record that goes on. */
async function withinLongRecord(files: number, before: (writer: WalWriter) => void): Promise<MemoryDisk> {
  const writer = new WalWriter();
  before(writer);
  writer.write({ data: filled((files + 2) * MIB) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(addBytes(writer.start, files * MIB + 77_777), 100_000);
  await rig.settle();
  await rig.close();
  return disk;
}

test.each([
  { where: "in the first file", before: (writer: WalWriter) => void writer.write({ data: filled(100) }), times: 1 },
  { where: "at the end of the first file", before: (writer: WalWriter) => void toSegmentEnd(writer, 0), times: 2 },
  {
    where: "in a file behind others",
    before: (writer: WalWriter) => {
      for (let i = 0; i < 3; i++) {
        writer.write({ data: filled(100) });
        writer.switchSegment();
      }
      writer.write({ data: filled(100) });
    },
    times: 1,
  },
])("a restart within a record that began $where reads no file again and again", async ({ before, times }) => {
  const files = 40;
  const disk = await withinLongRecord(files, before);
  const { bytesRead } = disk;
  const held = (await disk.list()).filter(({ name }) => /^[0-9A-F]{24}/.test(name)).length * MIB;
  await Journal.open(disk);
  // The bytes of the open file are written anew, for which they are read once more; of other files only the first page is.
  expect(disk.bytesRead - bytesRead).toBeLessThan(times * held + 2 * MIB);
  expect(disk.bytesRead - bytesRead).toBeGreaterThan((files - 3) * MIB);
});

test("a restart knows the verifier's state at its oldest file, for what stores that file", async () => {
  const writer = new WalWriter();
  writer.write({ data: filled(100) });
  const before = writer.position;
  writer.write({ data: filled(5 * MIB) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(addBytes(writer.start, 4 * MIB + 77_777), 100_000);
  await rig.settle();
  await rig.journal.confirm({ timeline: TIMELINE, lsn: before }, addBytes(writer.start, 2 * MIB));
  await rig.close();
  const journal = await Journal.open(disk);
  const [oldest] = journal.segments;
  expect(oldest).toMatchObject({ segment: 3, isComplete: true });
  expect(journal.carryInto(TIMELINE, 3 as never)).toMatchObject({ at: "0/300000", verifiedLsn: formatLsn(before) });
});

test("a gap that is noted while the store confirms WAL stays in the document", async () => {
  const writer = someWal();
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(writer.position, 8192);
  await rig.settle();
  const fromLsn = writer.position;
  const toLsn = addBytes(writer.start, 8 * MIB);
  const gap = {
    timeline: TIMELINE,
    fromLsn,
    toLsn,
    reason: "the slot was lost",
    detectedAt: "2026-01-01T00:00:00.000Z",
  };
  await Promise.all([
    rig.journal.noteGap(gap),
    rig.journal.confirm({ timeline: TIMELINE, lsn: addBytes(writer.start, MIB + 10) }),
  ]);
  expect(await rig.journal.readLimit(TIMELINE, writer.start)).toMatchObject({ kind: "gap", upTo: fromLsn });
  await rig.close();
  expect(await (await Journal.open(disk)).readLimit(TIMELINE, writer.start)).toMatchObject({ kind: "gap" });
});

test("a spare file that finds no room takes no file with it that is made a spare meanwhile", async () => {
  const writer = someWal();
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(writer.position, 8192);
  await rig.settle();
  const taken: string[] = [];
  disk.before = (what) => {
    taken.push(what);
    if (what.startsWith("allocate")) throw new SeawallError("store-full", "no room");
  };
  rig.journal.prepareSpare();
  await rig.journal.confirm({ timeline: TIMELINE, lsn: addBytes(writer.start, MIB + 10) });
  expect(taken.some((what) => what.startsWith("rename"))).toBe(true);
  disk.before = () => undefined;
  await rig.close();
  await rig.journal.close();
  const spares = (await disk.list()).filter(({ name }) => name.startsWith("spare-"));
  expect(spares).toHaveLength((rig.journal.bytes - rig.journal.walBytes) / MIB);
});

describe("a disk without a free byte", () => {
  /** Two complete segments and an open one, and no room for anything more. */
  async function onFullDisk(writer: WalWriter, spoolBytesMax: number): Promise<{ rig: Rig; disk: MemoryDisk }> {
    const disk = new MemoryDisk(64 * MIB);
    const rig = await openRig(disk, writer, spoolBytesMax);
    await rig.feed(writer.position, 8192);
    expect(await rig.settle()).toBe(true);
    disk.otherBytes = disk.freeBytes;
    expect(disk.freeBytes).toBe(0);
    return { rig, disk };
  }

  test.each([
    ["has a spare file", Infinity],
    ["has no spare file", 3 * MIB],
  ])(
    "lets go of what the store has, where the spool %s, and loses nothing at a power cut",
    async (_, spoolBytesMax) => {
      const writer = someWal();
      const { rig, disk } = await onFullDisk(writer, spoolBytesMax);
      const left: MemoryDisk[] = [];
      disk.before = () => {
        for (let kept = 0; kept <= disk.volatileNames; kept++) left.push(disk.afterPowerCut(kept));
      };
      await rig.journal.confirm({ timeline: TIMELINE, lsn: writer.position });
      disk.before = () => undefined;
      expect(rig.journal.segments.map(({ segment }) => segment)).toEqual([2, 3]);
      expect(rig.journal.confirmed?.lsn).toBe(writer.position);
      await rig.close();
      expect(left.length).toBeGreaterThan(2);
      for (const one of left) {
        const journal = await Journal.open(one);
        expect(journal.tip?.lsn).toBe(writer.position);
        await expectWal(journal, writer);
      }
    },
  );

  test("takes what must be written down, at the cost of a spare file", async () => {
    const writer = someWal();
    const { rig, disk } = await onFullDisk(writer, Infinity);
    const before = rig.journal.bytes;
    await rig.journal.noteStore("file:///store");
    expect((await Journal.open(disk)).store).toBe("file:///store");
    expect(rig.journal.bytes).toBe(before - MIB);
    await rig.close();
  });

  test("whose folder cannot be flushed keeps no name of a file that it removed to make room", async () => {
    const writer = someWal();
    const { rig, disk } = await onFullDisk(writer, Infinity);
    const filesOnDisk = (): string[] => disk.names.filter((name) => /^(spare|[0-9A-F]{24})/.test(name));
    disk.before = (what) => {
      if (what === "sync") throw new SeawallError("store-unavailable", "EIO");
    };
    await expect(rig.journal.noteStore("file:///store")).rejects.toMatchObject({ code: "store-unavailable" });
    expect(filesOnDisk()).toHaveLength(rig.journal.bytes / MIB);
    disk.before = () => undefined;
    await rig.journal.noteStore("file:///store");
    await rig.close();
  });

  test.skipIf(process.getuid?.() !== 0)(
    "is pruned, when it is a file system that another program has filled",
    async () => {
      const root = mkdtempSync(join(tmpdir(), "seawall-full-disk-"));
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", root]);
      try {
        const writer = someWal();
        const rig = await openRig(new FileDisk(root, "main"), writer, 3 * MIB);
        await rig.feed(writer.position, 8192);
        expect(await rig.settle()).toBe(true);
        expect(spawnSync("dd", ["if=/dev/zero", `of=${root}/other`, "bs=4k"]).status).not.toBe(0);
        expect((await diskSpaceOf(root)).freeBytes).toBe(0);
        await rig.journal.confirm({ timeline: TIMELINE, lsn: writer.position });
        expect(readdirSync(join(root, "main")).filter((name) => /^[0-9A-F]{24}/.test(name))).toEqual([
          segmentFileName(TIMELINE, 2 as never, MIB),
          `${segmentFileName(TIMELINE, 3 as never, MIB)}.partial`,
        ]);
        await rig.close();
        await rig.journal.close();
        const again = await Journal.open(new FileDisk(root, "main"));
        expect([again.tip?.lsn, again.confirmed?.lsn]).toEqual([writer.position, writer.position]);
        await again.close();
      } finally {
        execFileSync("umount", [root]);
        rmSync(root, { recursive: true });
      }
    },
  );
});

describe.each([
  { how: "and does nothing", hook: "before" },
  { how: "though it has done what it was asked for", hook: "after" },
] as const)("a disk that fails $how", ({ hook }) => {
  /** Fails the `nth` operation of a kind; the count of those that were met. */
  function failOnce(disk: MemoryDisk, kind: string, nth: number): () => number {
    let met = 0;
    disk[hook] = (what: string) => {
      if (what.startsWith(kind) && ++met === nth) throw new SeawallError("store-unavailable", `${what}: EIO`);
    };
    return () => met;
  }

  /** Each file is there once, under a name that the journal knows. */
  async function expectNames(journal: Journal, disk: MemoryDisk): Promise<void> {
    await journal.close();
    // The next change looks at the disk after one that failed.
    await journal.noteStore("memory://store");
    const files = (await disk.list()).filter(({ name }) => /^(spare|[0-9A-F]{24})/.test(name));
    expect(files).toHaveLength(journal.bytes / MIB);
    const names = journal.segments.map(({ segment, isComplete }) =>
      isComplete ? segmentFileName(TIMELINE, segment, MIB) : `${segmentFileName(TIMELINE, segment, MIB)}.partial`,
    );
    expect(files.map(({ name }) => name).filter((name) => !name.startsWith("spare"))).toEqual(names);
  }

  test.each(["write", "rename", "sync", "allocate"])(
    "once at each %s acknowledges nothing after it, and the next stream writes it anew",
    async (kind) => {
      const writer = someWal();
      for (let nth = 1; nth <= 30; nth++) {
        const disk = new MemoryDisk();
        const rig = await openRig(disk, writer);
        const met = failOnce(disk, kind, nth);
        const failed = await rig.feed(writer.position, 30_000).then(
          async () => !(await rig.settle()),
          () => true,
        );
        const { storedLsn } = rig.intake;
        await rig.close();
        if (met() < nth) {
          expect(nth).toBeGreaterThan(1);
          break;
        }
        if (failed) expect(storedLsn).toBeLessThan(writer.position);
        const again = await stream(rig.journal, writer);
        expect(again.intake.storedLsn).toBe(storedLsn);
        await again.feed(writer.position, 30_000);
        expect(await again.settle()).toBe(true);
        expect(again.intake.storedLsn).toBe(writer.position);
        await expectWal(again.journal, writer);
        await again.close();
        await expectNames(rig.journal, disk);
        expect((await Journal.open(disk)).tip?.lsn).toBe(writer.position);
      }
    },
  );

  test("three times in a row from any operation on has each file once, and loses nothing", async () => {
    const writer = someWal();
    let first = 1;
    for (let isMet = true; isMet; first++) {
      const disk = new MemoryDisk();
      const begun = await openRig(disk, writer);
      await begun.close();
      const { journal } = begun;
      let operations = 0;
      disk[hook] = (what: string) => {
        operations += 1;
        if (operations >= first && operations < first + 3) throw new SeawallError("store-unavailable", `${what}: EIO`);
      };
      let acknowledged = writer.start;
      for (let tries = 1; acknowledged < writer.position; tries++) {
        expect(tries).toBeLessThan(6);
        const rig = await stream(journal, writer);
        expect(rig.intake.storedLsn).toBe(acknowledged);
        await rig.feed(writer.position, 30_000).then(
          async () => rig.settle(),
          () => false,
        );
        acknowledged = rig.intake.storedLsn;
        await rig.close();
        await journal.confirm({ timeline: TIMELINE, lsn: acknowledged }).catch(() => undefined);
      }
      for (let tries = 1; journal.segments.length > 2; tries++) {
        expect(tries).toBeLessThan(6);
        await journal.confirm({ timeline: TIMELINE, lsn: acknowledged }).catch(() => undefined);
      }
      isMet = operations >= first;
      disk[hook] = () => undefined;
      await expectNames(journal, disk);
      await expectWal(journal, writer);
      expect((await Journal.open(disk)).tip?.lsn).toBe(writer.position);
    }
    expect(first).toBeGreaterThan(20);
  });

  test.each(["rename", "remove", "sync", "replace"])(
    "once at each %s lets go of the files that the store has at the next try",
    async (kind) => {
      const writer = new WalWriter();
      for (let i = 0; i < 6; i++) {
        writer.write({ data: filled(100) });
        writer.switchSegment();
      }
      writer.write({ data: filled(100) });
      for (let nth = 1; nth <= 30; nth++) {
        const disk = new MemoryDisk();
        const rig = await openRig(disk, writer);
        await rig.feed(writer.position, 30_000);
        expect(await rig.settle()).toBe(true);
        const met = failOnce(disk, kind, nth);
        const confirm = async () => rig.journal.confirm({ timeline: TIMELINE, lsn: writer.position });
        const failed = await confirm().then(
          () => false,
          () => true,
        );
        expect(failed).toBe(met() >= nth);
        if (!failed) {
          expect(nth).toBeGreaterThan(1);
          break;
        }
        await confirm();
        expect(rig.journal.segments.map(({ segment }) => segment)).toEqual([6, 7]);
        await rig.close();
        await expectNames(rig.journal, disk);
        const again = await Journal.open(disk);
        expect(again.tip?.lsn).toBe(writer.position);
        expect(again.bytes).toBe(rig.journal.bytes);
      }
    },
  );
});

test("WAL that differs from what the journal holds ends the stream", async () => {
  const writer = someWal();
  const disk = await filledDisk(writer);
  const rig = await openRig(disk, writer);
  const bytes = writer.bytes.slice(2 * MIB);
  bytes[500] = (bytes[500] ?? 0) ^ 1;
  await expect(rig.intake.take(addBytes(writer.start, 2 * MIB), bytes)).rejects.toMatchObject({ code: "wal-diverged" });
  await rig.close();
});

test("a directory of pg_receivewal is refused, and left as it is", async () => {
  const disk = new MemoryDisk();
  await disk.allocate(`${segmentFileName(TIMELINE, 7 as never, MIB)}.partial`, MIB);
  const { names } = disk;
  await expect(Journal.open(disk)).rejects.toMatchObject({ code: "usage" });
  expect(disk.names).toEqual(names);
});

test("the journal of another cluster is refused", async () => {
  const writer = someWal();
  const journal = await Journal.open(await filledDisk(writer));
  const other = { systemIdentifier: 8n, segmentSize: MIB, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  await expect(journal.adopt(other)).rejects.toMatchObject({ code: "foreign-cluster" });
});

test("files that the store has are used again or removed, but for the newest complete one", async () => {
  const writer = someWal();
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  await rig.feed(writer.position, 8192);
  await rig.settle();
  await rig.journal.confirm({ timeline: TIMELINE, lsn: addBytes(writer.start, MIB + 10) });
  expect(rig.journal.segments.map(({ segment }) => segment)).toEqual([2, 3]);
  await rig.journal.confirm({ timeline: TIMELINE, lsn: writer.position });
  expect(rig.journal.segments.map(({ segment }) => segment)).toEqual([2, 3]);
  await rig.close();
  expect((await Journal.open(disk)).tip).toMatchObject({ segment: 3, lsn: writer.position });
});
