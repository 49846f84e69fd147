/** The blocks that read encrypted objects without Seawall: each runs as it stands there, on the archive of a real server. */
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAgeTool } from "../harness/age-tools.ts";
import { makeKeys } from "../harness/encryption.ts";
import { tool } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "../restore/restored.ts";
import { blocksRunBy } from "./page-blocks.ts";

const BLOCKS = blocksRunBy("test/deploy/encryption-page.test.ts");
const NAME = "000000010000000000000005";
const age = await findAgeTool("age");
const zstd = tool("zstd");

test("the pages have blocks for age", () => {
  expect(BLOCKS.map(({ page }) => page).sort()).toEqual(["docs/archive-format.md", "docs/encryption.md"]);
});

describe.skipIf(!("path" in age) || zstd === undefined)("age and zstd", () => {
  let dir = "";
  let archived: Archived;
  let segment = "";
  let version = "";
  beforeAll(async () => {
    dir = makeTempDir("page-age");
    const keys = await makeKeys(dir);
    archived = await Archived.start({ keys });
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    segment = await archived.server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    await archived.server.sql("SELECT pg_switch_wal()");
    await archived.insert(3);
    await archived.stored();
    version = `${archived.server.version}\n`;
    await archived.stopReceiving();
    for (const name of ["seawall-identity.txt", "identity.txt"]) {
      if (join(dir, name) !== keys.identityFile) copyFileSync(keys.identityFile, join(dir, name));
    }
    const main = join(new URL(archived.url).pathname, "main");
    const wal = readdirSync(join(main, "wal"), { recursive: true, encoding: "utf8" });
    const stored = wal.find((path) => path.endsWith(`/${segment}.zst`)) ?? "";
    copyFileSync(join(main, "wal", stored), join(dir, `${NAME}.zst`));
    const [id = ""] = readdirSync(join(main, "backups"));
    cpSync(join(main, "backups", id, "parts"), join(dir, "parts"), { recursive: true });
    copyFileSync(join(main, "backups", id, "backup_manifest"), join(dir, "backup_manifest"));
  }, 240_000);
  afterAll(async () => {
    await archived[Symbol.asyncDispose]();
    removeTree(dir);
  });

  test.each(BLOCKS.map((block) => [`${block.page}:${block.line}`, block] as const))(
    "read what %s says",
    async (_, { text }) => {
      const work = join(dir, `work-${BLOCKS.findIndex((block) => block.text === text)}`);
      mkdirSync(work);
      for (const name of ["seawall-identity.txt", "identity.txt", `${NAME}.zst`, "backup_manifest"]) {
        copyFileSync(join(dir, name), join(work, name));
      }
      cpSync(join(dir, "parts"), join(work, "parts"), { recursive: true });
      const own = [age, { path: zstd }].flatMap((one) => ("path" in one ? [dirname(one.path ?? "")] : []));
      const env = { PATH: [...own, process.env["PATH"]].join(delimiter) };
      const { stdout } = await run("/bin/bash", ["-euo", "pipefail", "-c", text], { cwd: work, env });
      expect(readFileSync(join(work, NAME)).equals(readFileSync(join(archived.server.walDir, segment)))).toBe(true);
      if (text.includes("tar -x")) expect(readFileSync(join(work, "PG_VERSION"), "utf8")).toBe(version);
      if (text.includes("backup_manifest")) expect(stdout).toContain('"PostgreSQL-Backup-Manifest-Version"');
    },
    60_000,
  );
});
