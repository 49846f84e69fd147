/** The switch of docs/switch.md from each tool that docs/from-*.md have a page for, with the real tool where it can be had. */
import { test } from "vitest";
import { findPythonTool, findWalG, type ToolAccess } from "../harness/other-tools.ts";
import { providePgbackrest } from "../harness/pgbackrest.ts";
import { findPrograms } from "../harness/programs.ts";
import { startPostgres } from "../harness/postgres.ts";
import { providePackers } from "../import/archived-elsewhere.ts";
import { Barman, Pgbackrest, Script, WalPusher } from "./old-tools.ts";
import { switchFrom } from "./switch-story.ts";

const TIMEOUT_MS = 600_000;
const NAME = "no moment of a switch is without a tool that recovers it:";

await providePackers();
// Barman copies by rsync.
await findPrograms();
const barman = await findPythonTool("barman");
const walE = await findPythonTool("wal-e");
const walG = findWalG();
const pgbackrest = await providePgbackrest();

test(`${NAME} archive_command and pg_basebackup`, { timeout: TIMEOUT_MS }, async () => {
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1, settings: { archive_mode: "on" } });
  await using tool = await Script.start(server);
  await switchFrom(tool, server);
});

test.skipIf("unavailable" in barman)(`${NAME} Barman`, { timeout: TIMEOUT_MS }, async () => {
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  await using tool = await Barman.start(server, found(barman));
  await switchFrom(tool, server);
});

// WAL-E calls pg_start_backup(), which PostgreSQL 15 has no longer.
test.skipIf("unavailable" in walE)(`${NAME} WAL-E`, { timeout: TIMEOUT_MS }, async () => {
  // Its checkpoint is spread over the target.
  const settings = { archive_mode: "on", checkpoint_completion_target: 0 };
  await using server = await startPostgres({ version: 14, settings });
  await using tool = await WalPusher.start("wal-e", server, found(walE));
  await switchFrom(tool, server);
});

const why = "unavailable" in walG ? ` (skipped: ${walG.unavailable})` : "";
test.skipIf("unavailable" in walG)(`${NAME} WAL-G${why}`, { timeout: TIMEOUT_MS }, async () => {
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1, settings: { archive_mode: "on" } });
  await using tool = await WalPusher.start("wal-g", server, found(walG));
  await switchFrom(tool, server);
});

// Debian's pgBackRest knows servers up to 15.
test.skipIf("unavailable" in pgbackrest)(`${NAME} pgBackRest`, { timeout: TIMEOUT_MS }, async () => {
  if ("unavailable" in pgbackrest) return;
  await using server = await startPostgres({ version: 15, segmentSizeMiB: 1, settings: { archive_mode: "on" } });
  await using tool = await Pgbackrest.start(server, pgbackrest.program);
  await switchFrom(tool, server);
});

function found(access: ToolAccess): Extract<ToolAccess, { readonly binDir: string }> {
  if ("unavailable" in access) throw new Error(access.unavailable);
  return access;
}
