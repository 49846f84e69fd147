/**
 * Large files that several threads write: one takes the part apart, and any thread writes frames that lie inside of a file. What
 * comes out is judged by PostgreSQL's own pg_verifybackup and by the bytes; damage, a dead thread and a file that was replaced are
 * found.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { crc32c } from "@node-rs/crc32";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { compress } from "zstd-napi";
import { type Archive, openArchive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { readIndex } from "../../src/archive/backups/index.ts";
import { readBackup } from "../../src/archive/backups/list.ts";
import { backupPartKey } from "../../src/archive/keys.ts";
import { type ChecksumAlgorithm, startChecksum } from "../../src/codec/checksum.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import type { Store } from "../../src/store/store.ts";
import { silentLog } from "../../src/log.ts";
import { PartWriter } from "../../src/restore/part-writer.ts";
import { restore, type RestoreOptions } from "../../src/restore/restore.ts";
import { type Stretch, writeStretch } from "../../src/restore/stretch.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { asStored, identitiesOf, isEncryptedRun, makeKeys, recipientsOf } from "../harness/encryption.ts";
import { oracleOf, type PostgresServer } from "../harness/postgres.ts";
import { announcedRandom } from "../harness/random.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { type Entry, inFrames, tarOf } from "./archived-backup.ts";
import { Archived } from "./restored.ts";

const TIMEOUT_MS = 300_000;
const MIB = 1 << 20;
const FRAME_BYTES = 4 * MIB;
/** A part is fetched in ranges of this size. */
const RANGE_BYTES = 4 * MIB;

const folder = makeTempDir("stretches");
afterAll(() => removeTree(folder));
afterEach(() => void vi.restoreAllMocks());
let folders = 0;
const freshFolder = (): string => {
  const path = join(folder, `${folders++}`);
  mkdirSync(path);
  return path;
};

const random = announcedRandom("stretches", 91);
/** Compresses, and differs at every offset. */
const content = (bytes: number): Buffer => {
  const raw = Buffer.alloc(bytes, "the quick brown fox ");
  for (let at = 0; at + 8 <= bytes; at += 1000) raw.writeUInt32LE(random.between(0, 2 ** 32 - 1), at);
  return raw;
};
const file = (path: string, bytes: number, mode = 0o600): Entry => ({
  ...{ path, type: "file", content: content(bytes), mode, mtime: 1_700_000_000 },
});

describe("a part", () => {
  /** One part of these files, and a writer for it into a folder of its own. */
  function writing(
    files: readonly Entry[],
    { algorithm = "CRC32C", frames = inFrames, helpers = 1, identities, seal }: PartOptions = {},
  ) {
    const target = freshFolder();
    const tar = tarOf(files);
    const stored = seal ?? frames(tar);
    const checksumOf = (bytes: Buffer): string => {
      const checksum = startChecksum(algorithm);
      checksum.update(bytes);
      return `${algorithm}:${checksum.hex()}`;
    };
    const writer = new PartWriter(
      {
        ...{ part: "00001.tar.zst", tablespace: null, storedBytes: stored.length, bytes: tar.length },
        ...{ crc32c: crc32c(stored), identities, owner: undefined, umask: process.umask(), replace: false },
        entries: files.map(({ path, content: bytes }) => ({
          ...{ path, type: "file", size: bytes.length, checksum: checksumOf(bytes), write: true },
        })),
        layout: { targetDir: target, tablespaces: [], created: [] },
        helpers: new Int32Array(new SharedArrayBuffer(4)).fill(helpers),
      },
      () => undefined,
    );
    return { target, stored, writer };
  }
  interface PartOptions {
    readonly algorithm?: ChecksumAlgorithm;
    readonly frames?: (tar: Buffer) => Buffer;
    readonly helpers?: number;
    /** The part encrypted, and what opens it. */
    readonly seal?: Buffer;
    readonly identities?: readonly string[] | undefined;
  }
  const expectFiles = (target: string, files: readonly Entry[]): void => {
    for (const { path, content: bytes } of files)
      expect(readFileSync(join(target, path)).equals(bytes), path).toBe(true);
  };

  test("leaves whole frames of its files to others, in any order, and compares each file when all of it is written", async () => {
    const files = [
      file("small", 10),
      file("large", 3 * FRAME_BYTES),
      file("larger", 5 * FRAME_BYTES + 7),
      file("end", 9),
    ];
    const { target, stored, writer } = writing(files);
    const stretches: Stretch[] = [];
    for (let at = 0; at < stored.length; at += 100_000) {
      stretches.push(...(await writer.push(stored.subarray(at, at + 100_000))));
    }
    // The tar: a header and 512 bytes, a header and the large file from byte 1536 on, the larger one from 12584448 on.
    expect(stretches.map(({ path, at, rawBytes }) => [path, at, rawBytes])).toEqual([
      ["large", 4_192_768, FRAME_BYTES],
      ["large", 8_387_072, FRAME_BYTES],
      ["larger", 4_192_256, FRAME_BYTES],
      ["larger", 8_386_560, FRAME_BYTES],
      ["larger", 12_580_864, FRAME_BYTES],
      ["larger", 16_775_168, FRAME_BYTES],
    ]);
    const written = [...stretches].reverse().map((stretch) => writeStretch(stretch));
    expect(await writer.finish(written)).toEqual({ filesWritten: 4, bytesWritten: 10 + 8 * FRAME_BYTES + 7 + 9 });
    expectFiles(target, files);
  });

  test("keeps frames of an encrypted part that come with its last piece, which is opened when all has come", async () => {
    // The stored frames are far smaller than a piece of 64 KiB.
    const files = [{ ...file("large", 3 * FRAME_BYTES), content: Buffer.alloc(3 * FRAME_BYTES, "x") }, file("end", 9)];
    const keys = await makeKeys(freshFolder());
    const { target, stored, writer } = writing(files, {
      identities: (await identitiesOf(keys))?.texts,
      seal: await asStored(new Codec({ recipients: await recipientsOf(keys) }), inFrames(tarOf(files))),
    });
    expect(stored.length).toBeLessThan(64 << 10);
    expect(await writer.push(stored)).toEqual([]);
    expect(await writer.finish()).toMatchObject({ filesWritten: 2 });
    expectFiles(target, files);
  });

  test.each<[string, Entry, PartOptions]>([
    ["whose checksum is no CRC-32C", file("large", 3 * FRAME_BYTES), { algorithm: "SHA256" }],
    ["that its owner may not write", file("large", 3 * FRAME_BYTES, 0o400), {}],
    [
      "in one large frame, as another tool stores it",
      file("large", 3 * FRAME_BYTES),
      { frames: (tar) => compress(tar, { checksumFlag: true }) },
    ],
  ])("leaves no stretch of a file %s", async (_title, entry, options) => {
    const { target, stored, writer } = writing([entry], options);
    expect(await writer.push(stored)).toEqual([]);
    expect(await writer.finish()).toMatchObject({ filesWritten: 1 });
    expectFiles(target, [entry]);
  });

  test("leaves none while other threads have parts of their own", async () => {
    const files = [file("large", 3 * FRAME_BYTES)];
    const { target, stored, writer } = writing(files, { helpers: 0 });
    expect(await writer.push(stored)).toEqual([]);
    expect(await writer.finish()).toMatchObject({ filesWritten: 1 });
    expectFiles(target, files);
  });

  test("with a stretch of other content is refused by the file's checksum", async () => {
    const { stored, writer } = writing([file("large", 3 * FRAME_BYTES)]);
    const stretches = await writer.push(stored);
    const written = stretches.map((stretch) => writeStretch(stretch));
    const wrong = written.map((one, at) => (at === 1 ? { ...one, crc32c: one.crc32c ^ 1 } : one));
    await expect(writer.finish(wrong)).rejects.toMatchObject({
      code: "backup-corrupt",
      message: expect.stringMatching(
        /^part 00001\.tar\.zst large: its CRC32C is [0-9a-f]{8}, the manifest says/,
      ) as string,
    });
  });

  test("is not complete while a stretch of it is not written", async () => {
    const { stored, writer } = writing([file("large", 3 * FRAME_BYTES)]);
    const [first] = await writer.push(stored);
    if (first === undefined) throw new Error("no stretch");
    await expect(writer.finish([writeStretch(first)])).rejects.toThrow("content of large was not handed back");
  });

  test("a damaged frame names part, file and place", async () => {
    const { stored, writer } = writing([file("large", 3 * FRAME_BYTES)]);
    const [stretch] = await writer.push(stored);
    if (stretch === undefined) throw new Error("no stretch");
    stretch.stored[stretch.stored.length >> 1] = (stretch.stored[stretch.stored.length >> 1] ?? 0) ^ 1;
    // The first frame has the header.
    expect(stretch.frameAt).toBeGreaterThan(0);
    expect(() => writeStretch(stretch)).toThrow(
      new RegExp(`^part 00001\\.tar\\.zst is damaged in large: .+, in the zstd frame at byte ${stretch.frameAt}$`),
    );
  });

  test("a file that was replaced meanwhile is not written", async () => {
    const { target, stored, writer } = writing([file("large", 3 * FRAME_BYTES)]);
    const [stretch] = await writer.push(stored);
    if (stretch === undefined) throw new Error("no stretch");
    const other = join(target, "other");
    writeFileSync(other, "of another account");
    renameSync(other, join(target, "large"));
    expect(() => writeStretch(stretch)).toThrow(/^cannot write \S+large$/);
    expect(readFileSync(join(target, "large"), "utf8")).toBe("of another account");
  });
});

/** A table of some 60 MiB: one part, whatever the size of parts. */
async function fill(server: PostgresServer): Promise<void> {
  await server.sql(
    "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 6) AS pad FROM generate_series(1, 250000) i; CHECKPOINT",
  );
}

const options = (archive: Archive, backup: BackupDocument, targetDir: string): RestoreOptions => ({
  ...{ archive, targetDir, backupId: backup.id, target: parseTarget({}, 0), delta: false, owner: undefined },
  ...{ tablespaceMapping: new Map(), restoreCommand: "false", standby: undefined, jobs: 3, log: silentLog },
  progress: { begin: () => undefined, advance: () => undefined },
  now: new Date(),
  signal: new AbortController().signal,
});

/** Questions that go to threads; `meet` may do something about one before it goes, and keeps it back by returning false. */
function questions(meet: (kind: string, worker: Worker) => unknown = () => undefined): Map<Worker, string[]> {
  const asked = new Map<Worker, string[]>();
  // A cast: Node.js has that method.
  const post = Object.getOwnPropertyDescriptor(Worker.prototype, "postMessage")?.value as Worker["postMessage"];
  vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker, message: unknown, transfer) {
    const { kind } = (message as { readonly question: { readonly kind: string } }).question;
    asked.set(this, [...(asked.get(this) ?? []), kind]);
    if (meet(kind, this) !== false) post.call(this, message, transfer);
  });
  return asked;
}

function threadsWithStretches(asked: ReadonlyMap<Worker, readonly string[]>): number {
  return [...asked.values()].filter((kinds) => kinds.includes("stretch")).length;
}

describe("a restore", () => {
  let archived: Archived;
  let archive: Archive;
  let backup: BackupDocument;
  /** The part with the table alone. */
  let part: string;
  let path: string;

  beforeAll(async () => {
    archived = await Archived.start();
    await fill(archived.server);
    archive = await archived.archive();
    backup = await archived.backup(["--part-size", "16GiB"]);
    const { byPath } = await readIndex(archive, backup);
    const [largest] = [...byPath.values()].sort((a, b) => b.size - a.size);
    if (largest === undefined) throw new Error("no files");
    ({ part, path } = largest);
    expect(largest.size).toBeGreaterThan(10 * FRAME_BYTES);
  }, TIMEOUT_MS);
  afterAll(() => archived[Symbol.asyncDispose]());

  test(
    "of one large part is written by several threads, and is what pg_verifybackup expects",
    async () => {
      const target = join(freshFolder(), "data");
      const asked = questions();
      await restore(options(archive, backup, target));
      expect(threadsWithStretches(asked)).toBeGreaterThan(1);
      const verify = await oracleOf(archived.server, "pg_verifybackup");
      const alone = join(freshFolder(), "data");
      await restore({ ...options(archive, backup, alone), jobs: 1 });
      expect(readFileSync(join(target, path)).equals(readFileSync(join(alone, path)))).toBe(true);
      if (verify !== undefined) expect((await run(verify, ["-n", target])).stdout).toContain("successfully verified");
    },
    TIMEOUT_MS,
  );

  test(
    "finds damage in the middle of the part, and names part, file and place",
    async () => {
      const place = join(archived.folder, "s", backupPartKey("main", backup.id, part));
      const kept = readFileSync(place);
      const damaged = Buffer.from(kept);
      const at = kept.length >> 1;
      damaged[at] = (damaged[at] ?? 0) ^ 16;
      rmSync(place);
      writeFileSync(place, damaged);
      const target = join(freshFolder(), "data");
      try {
        const error = await restore(options(archive, backup, target)).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error).toMatchObject({ code: "backup-corrupt" });
        const { message } = error as Error;
        expect(message).toContain(part);
        // The thread that opens an encrypted part finds the damage itself.
        if (!isEncryptedRun) {
          const found = /^part (\S+) is damaged in (\S+): .+, in the zstd frame at byte (\d+)$/.exec(message);
          expect(found?.slice(1, 3), message).toEqual([part, path]);
          expect(Number(found?.[3])).toBeLessThanOrEqual(at);
          expect(Number(found?.[3])).toBeGreaterThan(at - FRAME_BYTES);
        }
        expect(statSync(join(target, "seawall.restore.unfinished")).isFile()).toBe(true);
      } finally {
        rmSync(place);
        writeFileSync(place, kept);
      }
      // What is whole is kept, and the rest written again.
      await restore({ ...options(archive, backup, target), delta: true });
      expect(statSync(join(target, "global/pg_control")).size).toBe(8192);
    },
    TIMEOUT_MS,
  );

  test(
    "ends when a thread dies that writes a stretch, and goes on from there",
    async () => {
      const target = join(freshFolder(), "data");
      let dead: Worker | undefined;
      questions((kind, worker) => {
        if (kind !== "stretch" || dead !== undefined) return;
        dead = worker;
        void worker.terminate();
      });
      await expect(restore(options(archive, backup, target))).rejects.toMatchObject({
        code: "internal",
        message: "a restore worker ended unexpectedly",
      });
      expect(dead).toBeDefined();
      vi.restoreAllMocks();
      await restore({ ...options(archive, backup, target), delta: true });
      expect(statSync(join(target, "global/pg_control")).size).toBe(8192);
    },
    TIMEOUT_MS,
  );

  test(
    "does not wait for its threads when it is cancelled within a large part",
    async () => {
      const target = join(freshFolder(), "data");
      const stop = new AbortController();
      // A range of zeros is written for minutes; here a thread never answers.
      questions((kind) => {
        if (kind !== "stretch") return true;
        stop.abort();
        return false;
      });
      await expect(restore({ ...options(archive, backup, target), signal: stop.signal })).rejects.toMatchObject({
        code: "aborted",
      });
      expect(statSync(join(target, "seawall.restore.unfinished")).isFile()).toBe(true);
    },
    TIMEOUT_MS,
  );
});

test(
  "an encrypted part is opened by one thread and written by several",
  async () => {
    const keys = await makeKeys(freshFolder());
    await using archived = await Archived.start({ keys });
    await fill(archived.server);
    const { id } = await archived.backup(["--part-size", "16GiB"]);
    const archive = await openArchive(archived.store, "main", {
      codec: new Codec({ identities: await identitiesOf(keys) }),
    });
    const backup = await readBackup(archive, id);
    const [wholeDir, aloneDir] = [join(freshFolder(), "data"), join(freshFolder(), "data")];
    const asked = questions();
    await restore(options(archive, backup, wholeDir));
    expect(threadsWithStretches(asked)).toBeGreaterThan(1);
    vi.restoreAllMocks();
    await restore({ ...options(archive, backup, aloneDir), jobs: 1 });
    const { byPath } = await readIndex(archive, backup);
    const [largest] = [...byPath.values()].sort((a, b) => b.size - a.size);
    const bytesIn = (folder: string): Buffer => readFileSync(join(folder, largest?.path ?? ""));
    expect(bytesIn(wholeDir).equals(bytesIn(aloneDir))).toBe(true);

    // A header is replaced before each range, and replaced back before the range is asked for again.
    const key = backupPartKey("main", id, largest?.part ?? "");
    const more = await makeKeys(freshFolder());
    const recipients = await Recipients.of([keys.recipient, more.recipient]);
    const codec = new Codec({ recipients, identities: await identitiesOf(keys) });
    const swapping = { ...archive, store: withLongerHeader(archived.store, key, codec) };
    const swappedDir = join(freshFolder(), "data");
    await restore(options(swapping, backup, swappedDir));
    expect(bytesIn(swappedDir).equals(bytesIn(aloneDir))).toBe(true);
    expect(swapping.store.swapped).toBeGreaterThan(0);

    // A bucket says that nothing lies where the last range was, and its size when another header has been replaced back.
    const late = { ...archive, store: withoutLastRangeAtFirst(archived.store, key) };
    const lateDir = join(freshFolder(), "data");
    await restore(options(late, backup, lateDir));
    expect(bytesIn(lateDir).equals(bytesIn(aloneDir))).toBe(true);
    expect(late.store.refused).toBe(1);
  },
  TIMEOUT_MS,
);

/** A store that gives nothing the first time for the range in which an object ends. */
function withoutLastRangeAtFirst(store: Store, key: string): Store & { readonly refused: number } {
  let refused = 0;
  const get: Store["get"] = async (asked, given = {}) => {
    const found = await store.get(asked, given);
    const { range } = given;
    if (asked !== key || range === undefined || found === undefined || refused > 0) return found;
    if (range.offset === 0 || range.offset + range.length < found.objectBytes) return found;
    refused++;
    return { ...found, body: new Uint8Array(0) };
  };
  return new Proxy(store as Store & { readonly refused: number }, {
    get: (target, name) => {
      if (name === "get") return get;
      if (name === "refused") return refused;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

/** A store that gives an object with another header where a range of it is asked for the first time. */
function withLongerHeader(store: Store, key: string, codec: Codec): Store & { readonly swapped: number } {
  const seen = new Set<number>();
  const get: Store["get"] = async (asked, { range, ...rest } = {}) => {
    const index = Math.floor((range?.offset ?? 0) / RANGE_BYTES);
    if (asked !== key || range === undefined || index === 0 || seen.has(index)) {
      return store.get(asked, { ...rest, ...(range === undefined ? {} : { range }) });
    }
    seen.add(index);
    const whole = await store.get(key, rest);
    if (whole === undefined) return undefined;
    const { header, replacesBytes } = await codec.newHeader({ front: whole.body, objectBytes: whole.objectBytes }, key);
    const body = Buffer.concat([header, whole.body.subarray(replacesBytes)]);
    expect(body.byteLength).toBeGreaterThan(whole.body.byteLength);
    const view = new Uint8Array(body.subarray(range.offset, range.offset + range.length));
    return { ...whole, body: view, objectBytes: body.byteLength };
  };
  return new Proxy(store as Store & { readonly swapped: number }, {
    get: (target, name) => {
      if (name === "get") return get;
      if (name === "swapped") return seen.size;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}
