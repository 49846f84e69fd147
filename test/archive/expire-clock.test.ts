/** The command line with a clock that is a year ahead, on a directory whose files have their true dates. */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { putPin } from "../../src/archive/backups/pins.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { openCalendar } from "../harness/calendar.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { emptyArchive, NEW, OLD, putSegments, putWholeBackup } from "./retained.ts";

const calendar = await openCalendar();
const DAY_MS = 86_400_000;

let folder: string;
beforeEach(() => {
  folder = makeTempDir("expire-clock");
});
afterEach(() => {
  removeTree(folder);
});

test.skipIf(!calendar.available)(
  "a clock that is a year ahead ends no pin and no recovery window, and expires nothing else early",
  async () => {
    mkdirSync(join(folder, "store"));
    const store = new FileStore(join(folder, "store"));
    const archive = await emptyArchive(store);
    await putSegments(archive, 1, 1, 30);
    const at = (daysAgo: number): string => new Date(Date.now() - daysAgo * DAY_MS).toISOString();
    await putWholeBackup(archive, { id: OLD, startLsn: "0/500028", stopLsn: "0/500100", finishedAt: at(5) });
    await putWholeBackup(archive, { id: NEW, startLsn: "0/1400028", stopLsn: "0/1400100", finishedAt: at(1) });
    const until = new Date(Date.now() + 30 * DAY_MS).toISOString();
    await putPin(archive, { backup: OLD, pinnedAt: at(1), expiresAt: until, note: "" });
    await store.close();
    using clock = calendar.begin(Date.now() + 365 * DAY_MS);
    const expire = async (...rules: string[]): Promise<void> => {
      const args = ["expire", "--store", `file://${folder}/store`, ...rules];
      const { code, stderr } = await runCli(args, { env: clock.env });
      expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    };
    const backups = (): string[] => readdirSync(join(folder, "store", "main", "backups")).sort();
    await expire("--keep-full", "1");
    expect(backups()).toEqual([OLD, NEW]);
    expect((await runCli(["unpin", OLD, "--store", `file://${folder}/store`])).code).toBe(0);
    await expire("--recovery-window", "3d");
    expect(backups()).toEqual([OLD, NEW]);
    await expire("--keep-full", "1");
    expect(backups()).toEqual([NEW]);
  },
);
