/** Imports that go wrong, that are interrupted, and that run beside a receiver, from one server's WAL. */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { putClaim } from "../../src/archive/line/claims.ts";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { DirectorySource } from "../../src/import/directory.ts";
import { importWal, type ImportReport } from "../../src/import/import-wal.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { formatLsn, lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { runCli, startCli } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Elsewhere, type Imported, importFrom, packed, providePackers } from "./archived-elsewhere.ts";

const TIMEOUT_MS = 240_000;
const SEGMENT_BYTES = 1 << 20;
const s3 = await startS3();

let elsewhere: Elsewhere;
let scratch: string;
/** Names of ten neighbouring segments that the server has archived. */
let names: string[];

beforeAll(async () => {
  await providePackers();
  scratch = makeTempDir("import");
  elsewhere = await Elsewhere.start({ version: 18 });
  await elsewhere.fill(10);
  names = elsewhere
    .files()
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .slice(-10);
}, TIMEOUT_MS);
afterAll(async () => {
  await elsewhere[Symbol.asyncDispose]();
  removeTree(scratch);
});

/** A new source folder with these of the segments in it, and a new store. */
function scene(indexes: readonly number[] = []): { readonly source: string; readonly store: string } {
  const place = mkdtempSync(join(scratch, "scene-"));
  const [source, store] = [join(place, "source"), join(place, "store")];
  mkdirSync(source);
  mkdirSync(store);
  for (const index of indexes) copyFileSync(elsewhere.path(nameOf(index)), join(source, nameOf(index)));
  return { source, store };
}

function nameOf(index: number): string {
  return names[index] ?? "none";
}

function startOf(index: number): string {
  return formatLsn(lsnOf(BigInt(`0x${nameOf(index).slice(16)}`) * BigInt(SEGMENT_BYTES)));
}

function wal(index: number): Buffer {
  return readFileSync(elsewhere.path(nameOf(index)));
}

function refusalsOf({ refused }: Imported): Record<string, string> {
  return Object.fromEntries(refused.map(({ kind, path, problem }) => [path, `${kind}: ${problem}`]));
}

function storedSegments(store: string): string[] {
  return readdirSync(store, { recursive: true })
    .map(String)
    .flatMap((path) => /([0-9A-F]{24})\.zst$/.exec(path)?.[1] ?? [])
    .sort();
}

function gapsIn(store: string): string[] {
  try {
    return readdirSync(join(store, "main", "gaps")).filter((name) => name.endsWith(".json"));
  } catch {
    return [];
  }
}

describe("files that are refused", () => {
  test("when all are refused, the archive does not begin", { timeout: TIMEOUT_MS }, async () => {
    const { source, store } = scene();
    const flipped = wal(2);
    flipped.writeUInt8(flipped.readUInt8(20_000) ^ 1, 20_000);
    writeFileSync(join(source, nameOf(2)), flipped);
    expect(await importFrom([source, "--store", `file://${store}`])).toMatchObject({
      code: 1,
      report: { refusals: 1 },
    });
    expect(readdirSync(store)).toEqual([]);
  });

  test("each is named with its reason, and the others are imported", { timeout: TIMEOUT_MS }, async () => {
    const { source, store } = scene([0, 4]);
    const put = (name: string, content: Uint8Array): void => writeFileSync(join(source, name), content);
    put(nameOf(1), wal(1).subarray(0, 500_000));
    const flipped = wal(2);
    flipped.writeUInt8(flipped.readUInt8(20_000) ^ 1, 20_000);
    put(nameOf(2), flipped);
    put(`${nameOf(3)}.gz`, gzipSync(wal(3)).subarray(0, 2_000));
    const foreign = wal(5);
    foreign.writeBigUInt64LE(7_000_000_000_000_000_000n, 24);
    put(`${nameOf(5)}.zst`, packed(foreign, ".zst"));
    put(nameOf(6), Buffer.concat([wal(6), Buffer.from("more")]));
    put(nameOf(7), wal(8));
    put(`${nameOf(8)}.lzo`, wal(8));
    put(`${nameOf(8)}.gpg`, wal(8));
    const larger = wal(9);
    larger.writeUInt32LE(16 << 20, 32);
    put(nameOf(9), larger);
    // Bombs: gigabytes of zeros in kilobytes, and a frame header that states terabytes.
    const bomb = join(source, `${names[9]?.slice(0, 22)}E1.zst`);
    execFileSync("sh", ["-c", `head -c 2000000000 /dev/zero | zstd -qc > ${bomb}`]);
    put(`${names[9]?.slice(0, 22)}E2.lz4`, hugeLz4Frame());
    symlinkSync(elsewhere.path(nameOf(8)), join(source, `${names[9]?.slice(0, 22)}E3`));
    execFileSync("mkfifo", [join(source, `${names[9]?.slice(0, 22)}E4`)]);
    symlinkSync("/dev/zero", join(source, "zero"));
    put("00000002.history", Buffer.from("1\tnonsense\n"));
    put(`00000003${nameOf(8).slice(8)}`, wal(8));
    const odd = join(source, "odd\nname \u001b[31m");
    mkdirSync(odd);
    copyFileSync(elsewhere.path(nameOf(4)), join(odd, nameOf(4)));
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xff, 0xfe])]), "x");
    put("README", Buffer.from("x"));

    const ours = (await elsewhere.server.systemIdentifier()).toString();
    const args = ["import", source, "--store", `file://${store}`, "--system-identifier", ours, "--json"];
    await using child = startCli(args);
    expect({ ...(await child.ended(TIMEOUT_MS)), said: withoutProgress(child.stderr) }).toEqual({
      code: 1,
      signal: null,
      said: "",
    });
    const report = JSON.parse(child.stdout) as Imported;
    const e = names[9]?.slice(0, 22) ?? "";
    expect(refusalsOf(report)).toEqual({
      [nameOf(1)]: "size: it has 500000 bytes, a segment of this cluster 1048576",
      [nameOf(2)]: expect.stringMatching(/^damaged: WAL does not verify at /) as string,
      [`${nameOf(3)}.gz`]: "damaged: it cannot be unpacked: unexpected end of file",
      [`${nameOf(5)}.zst`]: expect.stringMatching(/^foreign: its system identifier is 7000000000000000000, /) as string,
      [nameOf(6)]: "size: it has more than 1048576 bytes, a segment of this cluster 1048576",
      [nameOf(7)]: expect.stringMatching(/^damaged: WAL does not verify at .*: page address is /) as string,
      [`${nameOf(8)}.lzo`]: "unsupported: it is packed by lzop, as WAL-E does: unpack it first with lzop -dU",
      [`${nameOf(8)}.gpg`]: "unsupported: it is encrypted: decrypt it first with gpg -d",
      [nameOf(9)]: "foreign: its segments have 16777216 bytes, the archive's have 1048576",
      [`${e}E1.zst`]: "damaged: it is not WAL: unknown page magic 0",
      [`${e}E2.lz4`]: expect.stringMatching(/^damaged: it cannot be unpacked: lz4 ended with status /) as string,
      [`${e}E3`]: "unreadable: it is a symbolic link",
      [`${e}E4`]: "unreadable: it is a FIFO",
      "00000002.history": expect.stringMatching(/^damaged: history of timeline 2, line 1: /) as string,
      [`00000003${nameOf(8).slice(8)}`]:
        "timeline: its timeline's 00000003.history is neither in the source nor in the archive",
    });
    expect(report).toMatchObject({ ok: false, stored: { segments: 2 }, duplicates: 1, passedOver: 3, refusals: 15 });
    expect(storedSegments(store)).toEqual([nameOf(0), nameOf(4)]);
    expect(report.missing).toMatchObject([{ first: nameOf(1), last: nameOf(3), segments: 3 }]);
    expect(gapsIn(store)).toHaveLength(1);
    // A process of Node.js that has loaded the program takes 80 MiB.
    expect(child.peakRssBytes()).toBeLessThan(256 << 20);
  });

  test("two clusters in one folder are not mixed: one is chosen, the other refused file by file", async () => {
    const { source, store } = scene([0, 1]);
    for (const index of [2, 3]) {
      const foreign = wal(index);
      foreign.writeBigUInt64LE(7_000_000_000_000_000_000n, 24);
      writeFileSync(join(source, nameOf(index)), foreign);
    }
    const ours = (await elsewhere.server.systemIdentifier()).toString();
    const args = ["import", source, "--store", `file://${store}`];
    const both = await runCli(args);
    expect(both.code).toBe(3);
    expect(both.stderr).toContain("holds WAL of several clusters");
    expect(both.stderr).toContain(ours);
    expect(readdirSync(store)).toEqual([]);
    const { code, report } = await importFrom([...args.slice(1), "--system-identifier", ours]);
    expect(code).toBe(1);
    expect(report.refused.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
      `foreign ${nameOf(2)}`,
      `foreign ${nameOf(3)}`,
    ]);
    expect(storedSegments(store)).toEqual([nameOf(0), nameOf(1)]);
    const other = await runCli([...args, "--system-identifier", "7000000000000000000"]);
    expect(other.code).toBe(6);
  });

  test("a file with other content than the archive's, or than another file's, is a conflict, and nothing changes", async () => {
    const { source, store } = scene([0, 1]);
    await importFrom([source, "--store", `file://${store}`]);
    const other = wal(1);
    other.writeUInt8(other.readUInt8(9_000) ^ 1, 9_000);
    writeFileSync(join(source, nameOf(1)), other);
    const key = join(store, "main/wal/00000001", nameOf(1).slice(8, 16), `${nameOf(1)}.zst`);
    const before = readFileSync(key);
    const { code, report } = await importFrom([source, "--store", `file://${store}`]);
    expect(code).toBe(1);
    expect(refusalsOf(report)).toEqual({
      [nameOf(1)]: "conflict: the archive has this segment with other content, and keeps its own",
    });
    expect(readFileSync(key).equals(before)).toBe(true);
    expect(await importFrom([source, "--store", `file://${store}`, "--skip-stored"])).toMatchObject({ code: 0 });
  });

  test("a folder without WAL, a file, and one that does not exist are refused before the archive begins", async () => {
    const { source, store } = scene();
    writeFileSync(join(source, "file"), "x");
    for (const [path, said] of [
      [source, "holds no WAL"],
      [join(source, "file"), "is not a directory"],
      [join(source, "absent"), "ENOENT"],
    ] as const) {
      const { code, stderr } = await runCli(["import", path, "--store", `file://${store}`]);
      expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining(said) as string });
    }
    expect(readdirSync(store)).toEqual([]);
  });
});

async function importInto(
  store: Store,
  source: string,
  more: { readonly signal?: AbortSignal; readonly isDry?: boolean; readonly codec?: Codec } = {},
): Promise<ImportReport> {
  return importWal({
    source: new DirectorySource(source),
    store,
    cluster: "main",
    codec: new Codec(),
    isDry: false,
    skipsStored: false,
    systemIdentifier: undefined,
    now: () => new Date("2026-02-03T04:05:06Z"),
    onBegin: () => undefined,
    onFiles: () => undefined,
    ...more,
  });
}

test("a dry run without recipients is refused where the import would be: in an encrypted archive, with WAL that it lacks", async () => {
  const store = new MemoryStore();
  const recipients = await Recipients.of([await identityToRecipient(await generateX25519Identity())]);
  const codec = new Codec({ recipients });
  await importInto(store, scene([0, 1]).source, { codec });
  const lacking = scene([0, 1, 2]).source;
  for (const isDry of [false, true]) {
    await expect(importInto(store, lacking, { isDry })).rejects.toMatchObject({ code: "encryption-required" });
    const known = await importInto(store, scene([0, 1]).source, { isDry });
    expect(known.findings).toMatchObject({ refusals: 0, stored: { segments: 0 } });
  }
  expect((await importInto(store, lacking, { isDry: true, codec })).findings.stored.segments).toBe(1);
});

describe("older WAL below what is stored", () => {
  test("never moves the tip, wherever the import is cut, and a second run leaves no gap", async () => {
    const memory = new MemoryStore();
    await importInto(memory, scene([7, 8, 9]).source);
    const archive = await openArchive(memory, "main");
    const tip = await findTip(archive);
    const older = scene([0, 1, 2, 3, 4, 5, 6]).source;
    const cuts = [
      ["fail-before", 1],
      ["fail-after", 1],
      ["fail-before", 2],
      ["fail-after", 2],
    ] as const;
    for (const [fault, nth] of cuts) {
      const store = new FaultyStore(memory);
      store.failpoint({ operation: "put", key: /\/wal\//, nth, fault });
      await expect(importInto(store, older)).rejects.toMatchObject({ name: "SeawallError" });
      expect(await findTip(archive)).toEqual(tip);
      const gaps = await listGaps(archive);
      expect(gaps.map(({ fromLsn, toLsn }) => [formatLsn(fromLsn), formatLsn(toLsn)])).toEqual([
        [startOf(0), startOf(7)],
      ]);
    }
    const { findings, closedGaps, unjoined } = await importInto(memory, older);
    expect({ refusals: findings.refusals, closedGaps, unjoined }).toEqual({ refusals: 0, closedGaps: 1, unjoined: [] });
    expect(await listGaps(archive)).toEqual([]);
    expect(await findTip(archive)).toEqual(tip);
  });

  test("in an encrypted archive the gap below another writer's segment stays where no identity is given, and goes with one", async () => {
    const memory = new MemoryStore();
    const identity = await generateX25519Identity();
    const recipients = await Recipients.of([await identityToRecipient(identity)]);
    const blind = new Codec({ recipients });
    await importInto(memory, scene([7, 8, 9]).source, { codec: blind });
    const older = scene([0, 1, 2, 3, 4, 5, 6]).source;
    const cut = new FaultyStore(memory);
    cut.failpoint({ operation: "put", key: /\/wal\//, nth: 2, fault: "fail-before" });
    await expect(importInto(cut, older, { codec: blind })).rejects.toMatchObject({ code: "store-unavailable" });

    const first = await importInto(memory, older, { codec: blind });
    expect(first).toMatchObject({ closedGaps: 0, unjoined: [], locked: [nameOf(7)], findings: { refusals: 0 } });
    const archive = await openArchive(memory, "main");
    expect(await listGaps(archive)).toHaveLength(1);
    const reading = new Codec({ recipients, identities: new Identities([identity]) });
    const second = await importInto(memory, older, { codec: reading });
    expect(second).toMatchObject({ closedGaps: 1, unjoined: [], locked: [], findings: { refusals: 0 } });
    expect(await listGaps(archive)).toEqual([]);
  });

  test("a partial is there already for a second import into an encrypted archive, or refused, without an identity", async () => {
    const memory = new MemoryStore();
    const recipients = await Recipients.of([await identityToRecipient(await generateX25519Identity())]);
    const stranger = new Identities([await generateX25519Identity()]);
    const { source } = scene([0]);
    const partial = join(source, `${nameOf(1)}.partial`);
    const shorter = (bytes: number): Buffer => Buffer.concat([wal(1).subarray(0, bytes), Buffer.alloc(SEGMENT_BYTES)]);
    const put = (content: Buffer): void => writeFileSync(partial, content.subarray(0, SEGMENT_BYTES));
    put(shorter(60_000));
    const again = async (identities?: Identities): Promise<ImportReport["findings"]> =>
      (await importInto(memory, source, { codec: new Codec({ recipients, identities }) })).findings;
    expect(await again()).toMatchObject({ refusals: 0, stored: { segments: 1, partials: 1 } });
    for (const identities of [undefined, stranger]) {
      put(shorter(60_000));
      const same = { refusals: 0, stored: { segments: 0, partials: 0 }, present: { segments: 1, partials: 1 } };
      expect(await again(identities)).toMatchObject(same);
      put(shorter(100_000));
      expect(await again(identities)).toMatchObject(same);
      // What is stored cannot be compared as far as a shorter file goes.
      put(shorter(30_000));
      expect(await again(identities)).toMatchObject({ refusals: 1, stored: { partials: 0 } });
    }
  });

  test("what the source lacks stays a gap, as small as it is, until another import brings it", async () => {
    const { store } = scene();
    const url = `file://${store}`;
    await importFrom([scene([8, 9]).source, "--store", url]);
    const first = await importFrom([scene([0, 1, 4, 5]).source, "--store", url]);
    expect(first).toMatchObject({ code: 0, report: { closedGaps: 0 } });
    expect(first.report.missing).toMatchObject([{ first: nameOf(2), last: nameOf(3) }]);
    expect(gapsIn(store)).toHaveLength(2);
    const second = await importFrom([scene([2, 3, 6]).source, "--store", url]);
    expect(second).toMatchObject({ code: 0, report: { closedGaps: 1 } });
    expect(gapsIn(store)).toHaveLength(1);
    const third = await importFrom([scene([7]).source, "--store", url]);
    expect(third).toMatchObject({ code: 0, report: { closedGaps: 1, unjoined: [] } });
    expect(gapsIn(store)).toEqual([]);
    const verified = await runCli(["verify", "--deep", "--store", url, "--json"]);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true });
  });

  test("older files that are all refused leave no gap: the archive still begins where it began", async () => {
    const { source, store } = scene([6, 7]);
    const url = `file://${store}`;
    await importFrom([scene([8, 9]).source, "--store", url]);
    const flipped = wal(6);
    flipped.writeUInt8(flipped.readUInt8(20_000) ^ 1, 20_000);
    writeFileSync(join(source, nameOf(6)), flipped);
    writeFileSync(join(source, nameOf(5)), wal(5).subarray(0, 5));
    expect(await importFrom([source, "--store", url])).toMatchObject({ code: 1, report: { refusals: 2, missing: [] } });
    expect(storedSegments(store)).toEqual([nameOf(7), nameOf(8), nameOf(9)]);
    expect(gapsIn(store)).toEqual([]);
  });

  test("a receiver that has claimed the line and stored nothing is waited for", async () => {
    const { source, store } = scene([0]);
    await importFrom([source, "--store", `file://${store}`]);
    const files = new FileStore(store);
    const archive = await openArchive(files, "main");
    await putClaim(archive, {
      number: 1,
      timeline: timelineOf(1),
      parent: undefined,
      claimedAt: "2026-02-03T04:05:06.000Z",
      why: "first",
      server: "db",
      over: undefined,
      restoredFrom: undefined,
    });
    await files.delete([`main/wal/00000001/${nameOf(0).slice(8, 16)}/${nameOf(0)}.zst`]);
    const { code, stderr } = await runCli(["import", source, "--store", `file://${store}`]);
    expect(code).toBe(3);
    expect(stderr).toContain("[import-early]");
    expect(storedSegments(store)).toEqual([]);
    await files.close();
  });
});

test(
  "beside a running receiver: history is joined to its archive, and a restarted receiver goes on at its own place",
  {
    timeout: TIMEOUT_MS,
  },
  async () => {
    await using own = await Elsewhere.start({ version: 18 });
    await own.fill(4);
    // A slot begins at the last checkpoint.
    await own.server.sql("CHECKPOINT");
    const held = join(scratch, "held");
    const flags = ["receive", "--dsn", own.server.dsn, "--store", own.url, "--listen", "off"];
    {
      await using receiver = startCli(flags);
      await receiver.waitForLine(/starting to stream/);
      await own.fill(2);
      await until("a segment is sealed", async () => storedSegments(own.store).length > 0);
      const [first = "none"] = storedSegments(own.store);
      const older = own.files().filter((name) => /^[0-9A-F]{24}$/.test(name) && name < first);
      expect(older.length).toBeGreaterThanOrEqual(3);
      const lost = older.at(-2) ?? "none";
      renameSync(own.path(lost), held);
      const { code, report } = await own.import();
      expect({ code, refused: report.refused }).toEqual({ code: 0, refused: [] });
      expect(report.missing).toMatchObject([{ first: lost, last: lost }]);
      expect(gapsIn(own.store)).toHaveLength(1);
      // Nothing of the receiver's own is touched: it goes on.
      const count = storedSegments(own.store).length;
      await own.fill(2);
      await until("two more segments", async () => storedSegments(own.store).length >= count + 2);
      expect(receiver.running).toBe(true);
      await receiver.end("SIGKILL");
    }
    const sealed = storedSegments(own.store);
    {
      await using receiver = startCli(flags);
      const line = await receiver.waitForLine(/starting to stream/);
      const start = /(?<=startLsn"?[:=]"?)0\/[0-9A-F]+/.exec(line)?.[0] ?? line;
      expect(Number.parseInt(start.slice(2), 16)).toBeGreaterThanOrEqual(
        Number.parseInt(sealed.at(-1)?.slice(-8) ?? "", 16) * SEGMENT_BYTES,
      );
      expect(gapsIn(own.store)).toHaveLength(1);
      await own.fill(1);
      const [lost = "none"] = own.files().filter(() => false);
      expect(lost).toBe("none");
      await receiver.end("SIGTERM");
    }
    const missing = await own.import();
    const name = missing.report.missing[0]?.first ?? "none";
    renameSync(held, own.path(name));
    const { code, report } = await own.import(["--skip-stored"]);
    expect({ code, closed: report.closedGaps, missing: report.missing }).toEqual({ code: 0, closed: 1, missing: [] });
    expect(gapsIn(own.store)).toEqual([]);
    const verified = await runCli(["verify", "--deep", "--store", own.url, "--json"]);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
  },
);

describe.skipIf(!s3.available)("a bucket", () => {
  test("is read as WAL-G has filled it, into another prefix of the same bucket", { timeout: TIMEOUT_MS }, async () => {
    await using bucket = await s3.bucket();
    const other = openStore(bucket.urlFor("old/wal_005"), { env: s3.env });
    const endings = [".lz4", ".zst", ".br", ".gz", ""] as const;
    for (const [index, ending] of endings.entries()) {
      await other.put(`${nameOf(index)}${ending}`, packed(wal(index), ending));
    }
    await other.put(`${nameOf(5)}.lz4`, packed(wal(5), ".lz4").subarray(0, 2_000));
    await other.close();
    const args = [bucket.urlFor("old"), "--store", bucket.urlFor("new")];
    const { code, report } = await importFrom(args, { env: s3.env });
    expect(code).toBe(1);
    expect(report.refused).toMatchObject([{ kind: "damaged", path: `wal_005/${nameOf(5)}.lz4` }]);
    expect(report.ranges).toMatchObject([{ first: nameOf(0), last: nameOf(4), segments: 5 }]);
    expect(await importFrom(args, { env: s3.env })).toMatchObject({ code: 1, report: { present: { segments: 5 } } });
  });
});

/** The header of an lz4 frame that states 2^63 - 1 bytes of content, and a block that is cut. */
function hugeLz4Frame(): Buffer {
  const descriptor = Buffer.from([0x6c, 0x70, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
  const checksum = (xxh32(descriptor) >>> 8) & 0xff;
  const magic = Buffer.from([0x04, 0x22, 0x4d, 0x18]);
  return Buffer.concat([magic, descriptor, Buffer.from([checksum, 0xff, 0xff, 0x00, 0x00, 0x01])]);
}

/** XXH32 with seed 0 of fewer than 16 bytes, as lz4's frame header has it. */
function xxh32(bytes: Buffer): number {
  const [p1, p2, p3, p4, p5] = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1];
  const rotated = (value: number, by: number): number => (value << by) | (value >>> (32 - by));
  let hash = (p5 + bytes.length) | 0;
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) {
    hash = Math.imul(rotated((hash + Math.imul(bytes.readUInt32LE(at), p3)) | 0, 17), p4);
  }
  for (; at < bytes.length; at++) hash = Math.imul(rotated((hash + Math.imul(bytes[at] ?? 0, p5)) | 0, 11), p1);
  hash = Math.imul(hash ^ (hash >>> 15), p2);
  hash = Math.imul(hash ^ (hash >>> 13), p3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Only a slow machine shows progress. */
function withoutProgress(text: string): string {
  return text.replace(/^\{"event":"progress".*\n/gm, "");
}
