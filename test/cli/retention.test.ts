/** The commands that keep and drop backups, on archives in a directory. */
import { utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { listPins } from "../../src/archive/backups/pins.ts";
import { parseUntil } from "../../src/cli/commands/pin.ts";
import { openStore } from "../../src/store/open.ts";
import { emptyArchive, putBackupDocument, putSegments, putWholeBackup } from "../archive/retained.ts";
import { keysBelow } from "../store/keys-below.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

const ID = "20260203T040506Z-0badcafe";
const NOW = new Date("2026-11-22T10:00:00.000Z");

const at = (day: string): { startedAt: string; finishedAt: string } => ({
  startedAt: `${day}T00:00:00.000Z`,
  finishedAt: `${day}T01:00:00.000Z`,
});

let dir = "";
let archive: Archive;
beforeEach(async () => {
  dir = makeTempDir("retention");
  archive = await emptyArchive(openStore(`file://${dir}`, { env: {} }));
  await putBackupDocument(archive, { id: ID, startLsn: "0/200028", stopLsn: "0/200120", ...at("2026-01-20") });
});
afterEach(async () => {
  await archive.store.close();
  removeTree(dir);
});

const seawall = (...args: string[]) => inProcess([...args, "--store", `file://${dir}`]);

describe("pin and unpin", () => {
  test("a backup is pinned, pinned anew, and unpinned", async () => {
    expect(await seawall("pin", ID, "--note", "before the migration")).toEqual({
      code: 0,
      stdout: `Backup ${ID} is pinned.\n`,
      stderr: "",
    });
    const again = await seawall("pin", ID, "--until", "14d", "--json");
    const pin = JSON.parse(again.stdout) as Record<string, string>;
    expect(pin).toMatchObject({ backup: ID, note: "" });
    expect(Date.parse(pin["expiresAt"] ?? "") - Date.parse(pin["pinnedAt"] ?? "")).toBe(14 * 86_400_000);
    expect(await listPins(archive)).toEqual([pin]);
    expect(await seawall("unpin", ID)).toEqual({
      code: 0,
      stdout: `Backup ${ID} is not pinned any more.\n`,
      stderr: "",
    });
    expect(await seawall("unpin", ID, "--json")).toMatchObject({
      code: 1,
      stdout: `${JSON.stringify({ backup: ID, wasPinned: false })}\n`,
    });
  });

  test.each([
    ["no such backup", ["pin", "20260203T040506Z-00000000"], 1, /there is no backup 20260203T040506Z-00000000/],
    ["no id", ["pin", "newest"], 2, /"newest" is not the id of a backup/],
    ["no id to unpin", ["unpin", "../x"], 2, /is not the id of a backup/],
    ["an end that is past", ["pin", ID, "--until", "2026-01-01"], 2, /--until 2026-01-01 lies in the past/],
    ["a note of two lines", ["pin", ID, "--note", "a\nb"], 2, /1 to 500 characters without line breaks/],
    ["no such archive", ["pin", ID, "--cluster", "other"], 1, /no archive of cluster "other"/],
  ])("%s is refused", async (_, args, code, message) => {
    const ran = await seawall(...args);
    expect(ran).toMatchObject({ code, stdout: "" });
    expect(ran.stderr).toMatch(message);
    expect(await listPins(archive)).toEqual([]);
  });

  test("latest and a part of the id do as well, for pin, unpin, show, delete", async () => {
    expect((await seawall("pin", "latest")).stdout).toBe(`Backup ${ID} is pinned.\n`);
    expect((await seawall("unpin", ID.slice(-8))).stdout).toBe(`Backup ${ID} is not pinned any more.\n`);
    expect((await seawall("show", ID.slice(0, 8))).stdout).toContain(ID);
    expect((await seawall("delete", "latest", "--force", "--dry-run")).stdout).toContain(`Backup ${ID} would go`);
  });

  test("on a machine whose clock is behind, a pin lasts from the newest WAL's date by the store", async () => {
    await putSegments(archive, 1, 1, 3);
    // The store's clock is right; this machine's is two years behind.
    const storedMs = Math.ceil(Date.now() / 1000) * 1000 + 730 * 86_400_000;
    for (const key of await keysBelow(archive.store, "main/wal/"))
      utimesSync(join(dir, key), storedMs / 1000, storedMs / 1000);
    const pin = JSON.parse((await seawall("pin", ID, "--until", "14d", "--json")).stdout) as Record<string, string>;
    expect(Date.parse(pin["expiresAt"] ?? "")).toBe(storedMs + 14 * 86_400_000);
    expect(Date.parse(pin["pinnedAt"] ?? "")).toBe(storedMs);
    const past = new Date(storedMs - 86_400_000).toISOString();
    const refused = await seawall("pin", ID, "--until", past);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toMatch(/lies in the past/);
    expect(await listPins(archive)).toEqual([pin]);
  });

  test.each([
    ["2027-12-31", "2028-01-01T00:00:00.000Z"],
    ["2027-12-31T18:00:00+01:00", "2027-12-31T17:00:00.000Z"],
    ["14d", "2026-12-06T10:00:00.000Z"],
    ["36 h", "2026-11-23T22:00:00.000Z"],
    ["2026-11-22", "2026-11-23T00:00:00.000Z"],
  ])("--until %s is %s", (text, at) => {
    expect(parseUntil(text, NOW).toISOString()).toBe(at);
  });

  test.each([
    ["14", /is not a time/],
    ["14 fortnights", /is not a duration/],
    ["2027-02-30", /not a real moment/],
    ["2027-02-03T10:00", /has no time zone/],
    ["5 minutes ago", /lies in the past/],
    ["2026-11-21", /lies in the past/],
  ])("--until %s is refused", (text, message) => {
    expect(() => parseUntil(text, NOW)).toThrow(message);
  });
});

const EARLY = "20260101T000000Z-ffffffff";
const LATE = "20260202T000000Z-00000001";
const UNFINISHED = "20260301T000000Z-00000002";

/** Backups that begin in segments 4, 2 (that of `beforeEach`) and 8: clocks and LSNs disagree on which is the oldest. */
async function furnish(): Promise<void> {
  await putSegments(archive, 1, 1, 10);
  await putWholeBackup(archive, { id: EARLY, startLsn: "0/400028", stopLsn: "0/400100", ...at("2026-01-01") });
  await putWholeBackup(archive, { id: LATE, startLsn: "0/800028", stopLsn: "0/800100", ...at("2026-02-02") });
}

describe("expire", () => {
  test("without a rule it refuses, and says which there are", async () => {
    const ran = await seawall("expire");
    expect(ran).toMatchObject({ code: 2, stdout: "" });
    expect(ran.stderr).toContain("seawall expire needs a retention policy");
    expect(ran.stderr).toContain("hint: Give at least one of --keep-full, --recovery-window");
  });

  test.each([
    ["--keep-full", "0", /out of range/],
    ["--keep-daily", "two", /not a whole number/],
    ["--recovery-window", "14", /has no unit/],
  ])("%s %s is refused", async (flag, value, message) => {
    const ran = await seawall("expire", flag, value);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(message);
  });

  test("--dry-run shows what goes, what stays and why, what is freed and the windows afterwards; nothing goes", async () => {
    await furnish();
    const before = await keysBelow(archive.store, "main/");
    const ran = await seawall("expire", "--keep-full", "1", "--dry-run");
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    const lines = ran.stdout.split("\n");
    expect(lines[0]).toBe("policy: keep-full 1");
    expect(lines).toContainEqual(expect.stringMatching(`^goes   ${EARLY}  2026-01-01 00:00Z  timeline 1  0.98 KiB$`));
    expect(lines).toContainEqual(
      expect.stringMatching(
        `^stays  ${LATE}  2026-02-02 00:00Z  timeline 1  0.98 KiB  it is the last good backup; keep-full 1: it is number 1$`,
      ),
    );
    expect(ran.stdout).toMatch(/^WAL +7 segments, .* which no backup needs$/m);
    expect(ran.stdout).toMatch(/^ +000000010000000000000001 to 000000010000000000000007 goes$/m);
    expect(ran.stdout).toMatch(/^to free +\d/m);
    expect(ran.stdout).toMatch(
      /^afterwards +the cluster can be recovered to any point of\n +timeline 1, 0\/800100 to 0\/B00000, /m,
    );
    expect(await keysBelow(archive.store, "main/")).toEqual(before);
  });

  test("it does what --dry-run said, and says what it did", async () => {
    await furnish();
    await seawall("pin", ID);
    const planned = JSON.parse((await seawall("expire", "--keep-full", "1", "--dry-run", "--json")).stdout) as Plan;
    const done = JSON.parse((await seawall("expire", "--keep-full", "1", "--json")).stdout) as Plan & Done;
    expect(planned.dryRun).toBe(true);
    expect(done).toMatchObject({ ...planned, dryRun: false });
    expect(done.removed).toEqual([EARLY]);
    expect(done.stays.find(({ id }) => id === ID)?.reasons).toEqual([{ kind: "pinned", text: "it is pinned" }]);
    expect(done.wal).toMatchObject({ segments: 1, ranges: [{ first: "000000010000000000000001", segments: 1 }] });
    expect(done.bytesFreed).toBe(400 + done.wal.storedBytes);
    expect(done.windows).toMatchObject([{ timeline: 1, fromLsn: "0/200120", toLsn: "0/B00000", backup: ID }]);
  });
});

interface Plan {
  readonly dryRun: boolean;
  readonly stays: readonly { readonly id: string; readonly reasons: readonly unknown[] }[];
  readonly wal: { readonly segments: number; readonly storedBytes: number };
  readonly windows: readonly unknown[];
}
interface Done {
  readonly removed: readonly string[];
  readonly bytesFreed: number;
}

describe("delete", () => {
  beforeEach(furnish);

  test("one backup goes; the WAL that no other backup needs is named, and stays", async () => {
    await seawall("delete", EARLY, "--dry-run");
    expect((await keysBelow(archive.store, `main/backups/${EARLY}/`)).length).toBe(5);
    const ran = await seawall("delete", EARLY);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain(`Backup ${EARLY} is gone.\n`);
    expect(ran.stdout).toMatch(/1 segment, .* which no backup needs\n +000000010000000000000001 goes/);
    expect(await keysBelow(archive.store, `main/backups/${EARLY}/`)).toEqual([]);
    expect(await keysBelow(archive.store, "main/wal/")).toHaveLength(10);
  });

  test("a pinned one is refused, --force or not; the last good one only without --force", async () => {
    await seawall("pin", LATE, "--note", "legal hold");
    for (const force of [[], ["--force"]]) {
      const ran = await seawall("delete", LATE, ...force);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(ran.stderr).toMatch(/must stay: .*it is pinned \(legal hold\) \[backup-protected\]\nhint: Unpin it first/);
    }
    await seawall("unpin", LATE);
    await seawall("delete", ID);
    expect((await seawall("delete", LATE)).stderr).toMatch(/it is the last good backup \[backup-protected\]/);
    expect((await seawall("delete", LATE, "--force")).code).toBe(0);
    expect((await seawall("delete", EARLY, "--force", "--json")).code).toBe(0);
    expect(await keysBelow(archive.store, "main/backups/")).toEqual([]);
  });

  test("what is not finished, or cannot be read, goes with --force only; what is not there is named", async () => {
    await archive.store.put(`main/backups/${UNFINISHED}/parts/00001.tar.zst`, Buffer.alloc(10));
    expect((await seawall("delete", UNFINISHED)).stderr).toMatch(
      /is not finished, and may still be taken \[backup-prot/,
    );
    expect((await seawall("delete", UNFINISHED, "--dry-run")).stdout).toMatch(/would go: it is not finished/);
    expect(await seawall("delete", UNFINISHED, "--force")).toMatchObject({ code: 0 });
    await archive.store.put(`main/backups/${UNFINISHED}/backup.json`, Buffer.from("{"));
    expect((await seawall("delete", UNFINISHED)).stderr).toMatch(/cannot be read \[backup-protected\]\n.*not JSON/);
    expect((await seawall("delete", UNFINISHED, "--force")).code).toBe(0);
    expect(await keysBelow(archive.store, "main/backups/2026030")).toEqual([]);
    const absent = await seawall("delete", UNFINISHED);
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringMatching(/there is no backup/)]);
    expect((await seawall("delete", "*")).code).toBe(2);
  });
});
