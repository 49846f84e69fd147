/** The README's quick start works when it is pasted: on a real server and a real S3 bucket, and the restored server has the rows. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, expect, test } from "vitest";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { freePort } from "../harness/postgres-process.ts";
import { startPostgres, tool, versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { serverCli } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const s3 = await startS3();
const psql = tool("psql");

/** The block of shell lines behind a marker. */
function block(marker: string): string {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const found = new RegExp(`<!-- quick start: ${marker} -->\\s*\`\`\`sh\\n([\\s\\S]*?)\`\`\``).exec(readme);
  if (found?.[1] === undefined) throw new Error(`the README has no quick start block "${marker}"`);
  return found[1];
}

describe.skipIf(!s3.available || psql === undefined)("the quick start", () => {
  test("goes from nothing to a restored server", { timeout: 300_000 }, async () => {
    await using bucket = await s3.bucket();
    const version = versionsUnderTest().at(-1) ?? 18;
    await using server = await startPostgres({ version, freshIdentifier: true });
    await server.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS row");
    const folder = makeTempDir("quick-start");
    giveToServer(folder, 0o700);
    try {
      // `npx seawall` without a registry: the program that was built here.
      const { node, main } = serverCli();
      const bin = join(folder, "bin");
      mkdirSync(bin);
      chmodSync(bin, 0o755);
      writeFileSync(join(bin, "npx"), `#!/bin/sh\nshift\nexec '${node}' '${main}' "$@"\n`, { mode: 0o755 });
      const port = await freePort();
      const script = [
        "set -e",
        block("server"),
        // The receiver is the script's own child: it ends with the script, however that ends.
        "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT",
        block("seawall").replaceAll("5433", String(port)),
        `psql -p ${port} -U postgres -Atc 'SELECT count(*), sum(row) FROM kept'`,
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
          PGHOST: "127.0.0.1",
          PGPORT: String(server.port),
          SEAWALL_DSN: `postgresql://seawall:secret@127.0.0.1:${server.port}/postgres`,
          SEAWALL_STORE: bucket.url,
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
