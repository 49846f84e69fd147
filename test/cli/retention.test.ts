/** The commands that keep and drop backups, on archives in a directory. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { listPins } from "../../src/archive/pins.ts";
import { parseUntil } from "../../src/cli/pin.ts";
import { openStore } from "../../src/store/open.ts";
import { emptyArchive, putBackupDocument } from "../archive/retained.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

const ID = "20260203T040506Z-0badcafe";
const NOW = new Date("2026-11-22T10:00:00.000Z");

let dir = "";
let archive: Archive;
beforeEach(async () => {
  dir = makeTempDir("retention");
  archive = await emptyArchive(openStore(`file://${dir}`, { env: {} }));
  await putBackupDocument(archive, { id: ID });
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
    ["no id", ["pin", "latest"], 2, /"latest" is not the id of a backup/],
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
