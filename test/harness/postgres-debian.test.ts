/** A whole PostgreSQL 19 from Debian's packages: relocated, under the server's account, with tools of its own version. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { provideDebianPostgres } from "./postgres-debian.ts";
import { run } from "./run.ts";

const found = await provideDebianPostgres(19);

test.skipIf("unavailable" in found)("brings a server and every tool, which run where they were put", async () => {
  if ("unavailable" in found) throw new Error(found.unavailable);
  for (const name of ["postgres", "initdb", "pg_waldump", "pg_verifybackup", "pg_combinebackup", "pg_walsummary"]) {
    const { stdout } = await run(join(found.binDir, name), ["--version"]);
    expect(stdout).toMatch(/\(PostgreSQL\) 19/);
  }
  expect(existsSync(join(found.binDir, "..", "lib", "amcheck.so"))).toBe(true);
});

test("says what is missing for a version that it knows no packages of", async () => {
  expect(await provideDebianPostgres(13)).toEqual({
    unavailable: "PostgreSQL 13 is not on npm, and only Debian's packages have it",
  });
});
