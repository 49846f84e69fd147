/** The probe of a new version: silent about a version that is known, and it names what a table lacks. */
import { crc32c } from "@node-rs/crc32";
import { expect, test } from "vitest";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { WAL_CRAFTS } from "../harness/craft-wal.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { Checks } from "./checks.ts";
import { compareControlFile } from "./control-file.ts";
import { parseOptions } from "./options.ts";
import { probe, PROBE_SETTINGS } from "./probe.ts";
import { probeWal } from "./wal.ts";

const newest = versionsUnderTest().at(-1) ?? 18;
const TIMEOUT_MS = 600_000;

test(
  `PostgreSQL ${newest} is what Seawall knows it to be`,
  async () => {
    const lines: string[] = [];
    const checks = new Checks((line) => lines.push(line));
    await probe({ binDir: (await embeddedBinaries(newest)).binDir }, checks);
    expect(checks.differences, lines.join("\n")).toEqual([]);
    expect(checks.made.length).toBeGreaterThan(25);
    expect(checks.summary()).toBe(`${checks.made.length} checks, no difference`);
  },
  TIMEOUT_MS,
);

test(
  `PostgreSQL ${newest} taken for the version before differs in its page magic, and so in all of its WAL`,
  async () => {
    const lines: string[] = [];
    const checks = new Checks((line) => lines.push(line));
    await using server = await startPostgres({ version: newest, segmentSizeMiB: 1, settings: PROBE_SETTINGS });
    await probeWal(server, newest - 1, checks, WAL_CRAFTS.slice(0, 2));
    expect(checks.differences.length, lines.join("\n")).toBe(checks.made.length);
    expect(checks.differences.map(({ what }) => what)).toContain("page magic");
    expect(lines.join("\n")).toMatch(/DIFFERS page magic: 0x\w{4}, but 0x\w{4} was expected/);
    expect(lines.join("\n")).toMatch(/DIFFERS WAL: records .*: a page of version \d+ has magic 0x\w{4}/);
  },
  TIMEOUT_MS,
);

/** A control file of which only the frame is right. */
function controlFile(version: number, crcAt: number): Buffer {
  const bytes = Buffer.alloc(8192, 0);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(1, 48);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, crcAt)), crcAt);
  return bytes;
}

test("a control file of a layout that has no row is named by its version", () => {
  const checks = new Checks(() => undefined);
  compareControlFile(controlFile(2000, 320), checks, { timeline: "1" });
  expect(checks.made).toEqual([
    {
      what: "pg_control of version 2000",
      difference: "global/pg_control has version 2000, which Seawall does not know",
    },
  ]);
});

test("a field that is read from the wrong place is named, with both values", () => {
  const lines: string[] = [];
  const checks = new Checks((line) => lines.push(line));
  compareControlFile(controlFile(1800, 292), checks, { timeline: "1", max_connections: "100" });
  expect(lines).toEqual([
    "same    pg_control of version 1800, timeline: 1",
    "DIFFERS pg_control of version 1800, max_connections: 0, but 100 was expected",
  ]);
});

test.each([
  [[], /--bin is missing/],
  [["--bin"], /argument missing/],
  [["--bin", "/nonexistent"], /--bin \/nonexistent has no program initdb/],
  [["--bin", import.meta.dirname], /has no program initdb/],
  [["--bin", "BIN", "--version", "18.1"], /--version 18\.1 is no major version/],
  [["--bin", "BIN", "--fast"], /Unknown option '--fast'/],
  [["--bin", "BIN", "more"], /more/],
])("called with %j it says what is wrong before it starts a server", async (args, message) => {
  const { binDir } = await embeddedBinaries(newest);
  expect(() => parseOptions(args.map((arg) => (arg === "BIN" ? binDir : arg)))).toThrow(message);
});

test("a folder of programs and a version are all it takes", async () => {
  const { binDir } = await embeddedBinaries(newest);
  expect(parseOptions(["--bin", binDir, "--version", "18"])).toEqual({ binDir, major: 18 });
});
