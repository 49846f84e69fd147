/**
 * The quick starts of the README and of docs/quick-start.md work when they are pasted: on a real server, into a directory and a real
 * S3 bucket. The restored server has the rows.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { delimiter, join } from "node:path";
import { describe, expect, test } from "vitest";
import { serverAccount } from "../harness/account.ts";
import { startPostgres, tool, versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { serverCli } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "./page-blocks.ts";

const s3 = await startS3();
const psql = tool("psql");

/** A block of shell lines with places of the test. The first run of init ends with 1, as the page says. */
function block(page: string, marker: string, places: Readonly<Record<string, string>> = {}): string {
  const lines = Object.entries(places).reduce((text, [from, to]) => text.replaceAll(from, to), pageBlock(page, marker));
  return lines.replace(/^(.*seawall init [^#\n]*).*$/m, "$1 || [ $? = 1 ]");
}

/** An installation without a registry: the program that was built here; and sudo for the harness's superuser. */
function programsIn(folder: string, port: number): string {
  const { node, main } = serverCli();
  const bin = join(folder, "bin");
  mkdirSync(bin);
  chmodSync(bin, 0o755);
  const start = `exec '${node}' '${main}' "$@"`;
  const superuser = `PGHOST=127.0.0.1 PGPORT=${port} PGUSER=postgres`;
  const sudo = `test "$1" = -u || exec "$@"\nshift 2\nexec env ${superuser} "$@"`;
  const programs = { seawall: start, npx: `shift\n${start}`, sudo };
  for (const [name, line] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }
  return bin;
}

describe.skipIf(!s3.available || psql === undefined)("the quick start of", () => {
  test.each([
    ["README.md", "seawall"],
    ["docs/quick-start.md", "directory"],
    ["docs/quick-start.md", "s3"],
  ])("%s (%s) goes from nothing to a restored server", { timeout: 300_000 }, async (page, marker) => {
    await using bucket = await s3.bucket();
    const version = versionsUnderTest().at(-1) ?? 18;
    await using server = await startPostgres({ version, freshIdentifier: true });
    await server.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS row");
    const folder = makeTempDir("quick-start");
    giveToServer(folder, 0o700);
    try {
      const bin = programsIn(folder, server.port);
      const places = {
        "host=127.0.0.1": `'host=127.0.0.1 port=${server.port}'`,
        "s3://wal/prod?region=eu-central-1": bucket.url,
        "/srv/archive": `${folder}/archive`,
      };
      const script = [
        "set -e",
        // The receiver is the script's own child: it ends with the script, however that ends.
        "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT",
        block(page, marker, places),
        block(page, "restore"),
        `psql -h "$PWD/restored" -p "$(sed -n 4p restored/postmaster.pid)" -U postgres -Atc 'SELECT count(*), sum(row) FROM kept'`,
        "pg_ctl stop -D ./restored -m fast >/dev/null",
      ].join("\n");
      const { stdout } = await run("/bin/bash", ["-c", script], {
        account: serverAccount(),
        cwd: folder,
        timeoutMs: 240_000,
        env: {
          ...s3.env,
          PATH: [bin, server.binDir, psql?.replace(/\/psql$/, "") ?? "", process.env["PATH"]].join(delimiter),
          HOME: folder,
          USER: serverAccount()?.name ?? userInfo().username,
          SEAWALL_LISTEN: "off",
        },
      });
      expect(stdout).toContain("Backups");
      expect(stdout.trim().split("\n").at(-1)).toBe("100|5050");
    } finally {
      removeTree(folder);
    }
  });
});
