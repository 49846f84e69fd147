/** A backup that goes while it is being restored: said as it is, and half a directory is not taken for a whole one. */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLog } from "../../src/log.ts";
import { restore } from "../../src/restore/restore.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { openStore } from "../../src/store/open.ts";
import { inProcess } from "../cli/cli.ts";
import { layOut, NEWER, OLDER } from "../fixtures/damaged-archive.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

let folder: string;
beforeAll(() => void (folder = makeTempDir("removed")));
afterAll(() => removeTree(folder));

let places = 0;
function archiveFolder(): string {
  const path = join(folder, `archive-${places++}`);
  mkdirSync(path);
  layOut(path, { name: "nothing at all", changes: [] });
  return path;
}

/** Restores the older backup; `meanwhile` happens before its second part is read. Resolves with the error. */
async function restoreWhile(place: string, targetDir: string, meanwhile: () => Promise<void>): Promise<unknown> {
  const store = new FaultyStore(openStore(`file://${place}`, { env: {} }));
  const point = store.failpoint({ key: /parts\/00002/, fault: "stall" });
  const running = restore({
    ...{ archive: await openRunArchive(store, "main"), targetDir, backupId: OLDER, target: parseTarget({}, 0) },
    ...{ delta: false, owner: undefined, tablespaceMapping: new Map(), restoreCommand: "false", standby: undefined },
    ...{ jobs: 1, log: silentLog, now: new Date(), signal: new AbortController().signal },
    progress: { begin: () => undefined, advance: () => undefined },
  }).then(
    () => undefined,
    (error: unknown) => error,
  );
  await Promise.race([point.reached, running]);
  await meanwhile();
  point.release();
  return running;
}

test("an expiry that takes the backup under a restore is what the restore says", async () => {
  const place = archiveFolder();
  const targetDir = join(folder, "target");
  const error = await restoreWhile(place, targetDir, async () => {
    const where = ["--store", `file://${place}`, "--log-level", "silent"];
    expect(await inProcess(["unpin", OLDER, ...where])).toMatchObject({ code: 0 });
    expect(await inProcess(["expire", "--keep-full", "1", ...where])).toMatchObject({ code: 0 });
  });
  expect(error).toMatchObject({
    code: "backup-removed",
    message: `backup ${OLDER} was removed while it was being restored`,
    cause: { code: "backup-corrupt" },
  });
  // No server starts from it, and nothing takes it for done.
  expect(existsSync(join(targetDir, "global", "pg_control"))).toBe(false);
  expect(readdirSync(targetDir)).toContain("seawall.restore.unfinished");
  const where = ["--store", `file://${place}`, "--log-level", "silent", "--restore-command", "false"];
  const again = await inProcess(["restore", "--target-dir", targetDir, ...where]);
  expect(again.code).toBe(3);
  const delta = await inProcess(["restore", "--target-dir", targetDir, "--delta", "--backup", NEWER, ...where]);
  expect(delta.code, delta.stderr).toBe(0);
  expect(existsSync(join(targetDir, "global", "pg_control"))).toBe(true);
});

test("a part that is missing from a backup that is there is damage", async () => {
  const place = archiveFolder();
  const error = await restoreWhile(place, join(folder, "other"), async () => {
    rmSync(join(place, "main", "backups", OLDER, "parts", "00002.tar.zst"));
  });
  expect(error).toMatchObject({ code: "backup-corrupt" });
});
