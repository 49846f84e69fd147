/** pgBackRest's files without pgBackRest: its ini files, and repositories that newer versions write than the one under test. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { DirectorySource } from "../../src/import/directory.ts";
import { findRepoBackup } from "../../src/import/pgbackrest/backup.ts";
import { type IniEntry, IniReader } from "../../src/import/pgbackrest/ini.ts";
import { parseControlFile } from "../../src/wal/pg-control.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Writes a file as pgBackRest does. Values are JSON texts where they are given as `raw`. */
function iniOf(sections: Sections, checksum?: string): Buffer {
  const text = (value: unknown): string =>
    typeof value === "object" && value !== null && "raw" in value ? String(value.raw) : JSON.stringify(value);
  const lines: string[] = [];
  const json: string[] = [];
  for (const [section, values] of Object.entries(sections)) {
    lines.push(`[${section}]`);
    json.push(
      `${JSON.stringify(section)}:{${Object.entries(values)
        .map(([key, value]) => `${JSON.stringify(key)}:${text(value)}`)
        .join(",")}}`,
    );
    for (const [key, value] of Object.entries(values)) lines.push(`${key}=${text(value)}`);
    lines.push("");
  }
  const sha1 =
    checksum ??
    createHash("sha1")
      .update(`{${json.join(",")}}`)
      .digest("hex");
  return Buffer.from([...lines, "[backrest]", `backrest-checksum="${sha1}"`, ""].join("\n"));
}

function read(pieces: Iterable<Uint8Array>): IniEntry[] {
  const found: IniEntry[] = [];
  const reader = new IniReader("backup.info", (entry) => found.push(entry));
  for (const piece of pieces) reader.push(piece);
  reader.end();
  return found;
}

describe("an ini file", () => {
  const sections = {
    backup: { label: "20261001-020000F", "db-system-id": { raw: "7713826162059702087" } },
    "target:file": { 'pg_data/a=b"é': { size: 3 }, "pg_data/x={1}": { size: 4 } },
  };
  const whole = iniOf(sections);

  test("is read in any split, keys with equals signs and quotes in them", () => {
    const entries = read([whole]);
    expect(entries.map(({ section, key, text }) => [section, key.toString(), text])).toEqual([
      ["backup", "label", '"20261001-020000F"'],
      ["backup", "db-system-id", "7713826162059702087"],
      ["target:file", 'pg_data/a=b"é', '{"size":3}'],
      ["target:file", "pg_data/x={1}", '{"size":4}'],
    ]);
    for (let at = 0; at <= whole.length; at++) {
      expect(read([whole.subarray(0, at), whole.subarray(at)])).toEqual(entries);
    }
  });

  test.each([
    ["a changed value", Buffer.from(whole.toString().replace('"size":3', '"size":5')), /has the SHA-1 .* and says/],
    ["a missing end", whole.subarray(0, whole.indexOf("[backrest]")), /is cut off/],
    [
      "a line that is none",
      Buffer.from(whole.toString().replace("label=", "label ")),
      /a line that is no key with a value/,
    ],
    ["nothing", Buffer.alloc(0), /is cut off/],
    ["a line without an end", Buffer.alloc((1 << 20) + 1, 0x61), /lines far too long/],
  ])("with %s is refused", (_, bytes, message) => {
    expect(() => read([bytes])).toThrow(message);
  });
});

const LABEL = "20261001-020000F";
const BACKUP_LABEL = [
  "START WAL LOCATION: 0/E00028 (file 00000001000000000000000E)",
  "CHECKPOINT LOCATION: 0/E00060",
  "BACKUP METHOD: streamed",
  "BACKUP FROM: primary",
  "START TIME: 2026-10-01 02:00:00 UTC",
  "LABEL: pgBackRest backup",
  "START TIMELINE: 1",
  "",
].join("\n");

class CraftedRepository implements Disposable {
  readonly path = makeTempDir("crafted");
  readonly control = readFileSync(new URL("../fixtures/control/15.bin", import.meta.url));

  /** A backup of three files in one bundle, as a version of pgBackRest writes it that leaves headers out. */
  write(changes: { readonly file?: object; readonly backup?: object; readonly option?: object } = {}): void {
    const contents = {
      backup_label: Buffer.from(BACKUP_LABEL),
      PG_VERSION: Buffer.from("15\n"),
      "global/pg_control": this.control,
    };
    const packed = Object.entries(contents).map(([path, content]) => ({
      path,
      content,
      bytes: deflateRawSync(content),
    }));
    let offset = 0;
    const files: Record<string, object> = {};
    for (const { path, content, bytes } of packed) {
      const place = { bni: 1, ...(offset === 0 ? {} : { bno: offset }), "repo-size": bytes.length };
      const checksum = createHash("sha1").update(content).digest("hex");
      files[`pg_data/${path}`] = { ...place, checksum, size: content.length, timestamp: 1_790_000_000 };
      offset += bytes.length;
    }
    const control = files["pg_data/global/pg_control"] ?? {};
    files["pg_data/global/pg_control"] = { ...control, ...changes.file };
    const { systemIdentifier } = parseControlFile(this.control);
    const lsns = { "backup-lsn-start": "0/E00028", "backup-lsn-stop": "0/E00100" };
    const times = { "backup-timestamp-start": 1_790_000_000, "backup-timestamp-stop": 1_790_000_060 };
    const manifest = iniOf({
      backup: { "backup-bundle": true, "backup-bundle-raw": true, ...lsns, ...times, ...changes.backup },
      "backup:db": { "db-system-id": { raw: String(systemIdentifier) }, "db-version": "15" },
      "backup:option": { "option-compress-type": "gz", "option-online": true, ...changes.option },
      "target:file": files,
      "target:file:default": { mode: "0600" },
      "target:path": { pg_data: {}, "pg_data/global": {} },
      "target:path:default": { mode: "0700" },
    });
    mkdirSync(join(this.path, LABEL, "bundle"), { recursive: true });
    writeFileSync(join(this.path, LABEL, "backup.manifest"), manifest);
    writeFileSync(join(this.path, LABEL, "bundle", "1"), Buffer.concat(packed.map(({ bytes }) => bytes)));
  }

  find(): ReturnType<typeof findRepoBackup> {
    return findRepoBackup(new DirectorySource(this.path), LABEL, {});
  }

  [Symbol.dispose](): void {
    removeTree(this.path);
  }
}

describe("a repository of a newer pgBackRest", () => {
  test("files in bundles without headers are read", async () => {
    using repository = new CraftedRepository();
    repository.write();
    const found = await repository.find();
    expect(found).toMatchObject({ name: LABEL, facts: { pgMajor: 15, timeline: 1, segmentSize: 16 << 20 } });
    const contents = new Map<string, string>();
    let path = "";
    for await (const event of found.entries({})) {
      if (event.kind === "entry") path = `${event.header.type} ${event.header.path} ${event.header.mode.toString(8)}`;
      if (event.kind === "entry") contents.set(path, "");
      if (event.kind === "data")
        contents.set(path, (contents.get(path) ?? "") + Buffer.from(event.bytes).toString("latin1"));
    }
    expect([...contents]).toEqual([
      ["directory global 700", ""],
      ["file backup_label 600", BACKUP_LABEL],
      ["file PG_VERSION 600", "15\n"],
      ["file global/pg_control 600", repository.control.toString("latin1")],
    ]);
  });

  test.each([
    ["block increments", { file: { bi: 1, bims: 34 } }, "import-source", /as block increments \(repo-block\)/],
    [
      "wrong pages",
      { file: { "checksum-page": false } },
      "backup-page-checksum",
      /wrong page checksums in pg_data\/global/,
    ],
    ["less content than stated", { file: { size: 9000 } }, "backup-mismatch", /another size/],
    ["more content than stated", { file: { size: 7000 } }, "backup-mismatch", /another size/],
    ["another content", { file: { checksum: "0".repeat(40) } }, "backup-mismatch", /has the SHA-1/],
    ["a path that leads out", { file: { reference: "../other" } }, "backup-corrupt", /no valid reference/],
    ["no checksum", { file: { checksum: undefined } }, "backup-corrupt", /no valid checksum/],
    ["another start", { backup: { "backup-lsn-start": "0/F00028" } }, "backup-corrupt", /contradict each other/],
    ["an unknown compression", { option: { "option-compress-type": "xz" } }, "backup-corrupt", /option-compress-type/],
    ["a stopped server", { option: { "option-online": false } }, "import-source", /while the server was stopped/],
    ["no time", { backup: { "backup-timestamp-stop": "now" } }, "backup-corrupt", /backup-timestamp-stop/],
  ])("with %s is refused", async (_, changes, code, message) => {
    using repository = new CraftedRepository();
    repository.write(changes);
    await expect(repository.find()).rejects.toThrow(message);
    await expect(repository.find()).rejects.toMatchObject({ code });
  });
});
