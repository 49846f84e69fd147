/**
 * A restored cluster holds what the primary held: every table's content, over versions and segment sizes. SEAWALL_TEST_FULL=1
 * takes every size on every version.
 */
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FULL } from "../campaigns/campaign.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type PostgresServer, oracleOf, versionsUnderTest } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

const SIZES_MIB = [1, 16, 64];
const cases = versionsUnderTest().flatMap((version, index) =>
  SIZES_MIB.filter((size) => FULL || size === SIZES_MIB[1 + (index % 2)]).map((size) => [version, size] as const),
);

const TABLES = ["plain", "moved", "toasted", "t"];

/** Each table's rows, the large object, and the sequence. */
async function contentsOf(server: PostgresServer): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  for (const table of TABLES) {
    const sql = `SELECT count(*) || ' ' || coalesce(md5(string_agg(x::text, ',' ORDER BY x::text)), '') FROM ${table} x`;
    contents[table] = await server.value(sql);
  }
  contents["large object"] = await server.value("SELECT md5(lo_get(4711))");
  contents["index"] = await server.value("SELECT sum(i)::text FROM plain WHERE i BETWEEN 100 AND 120");
  return contents;
}

test.each(cases)(
  "PostgreSQL %i, segments of %i MiB: tablespaces over a symlink, unlogged tables, large objects, before and after the backup",
  async (version, segmentSizeMiB) => {
    await using archived = await Archived.start({ version, segmentSizeMiB, initdbArgs: ["--data-checksums"] });
    const { server } = archived;
    const place = makeTempDir("spaces");
    for (const name of ["real", "restored"]) {
      mkdirSync(join(place, name));
      giveToServer(join(place, name), 0o700);
    }
    symlinkSync(join(place, "real"), join(place, "link"));
    await server.sql(`CREATE TABLESPACE linked LOCATION '${join(place, "link")}'`);
    await server.sql("CREATE TABLE plain AS SELECT i, md5(i::text) AS pad FROM generate_series(1, 20000) i");
    await server.sql("CREATE INDEX ON plain (i)");
    await server.sql("CREATE TABLE moved TABLESPACE linked AS SELECT i FROM generate_series(1, 5000) i");
    await server.sql(
      "CREATE TABLE toasted AS SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 300) j) AS pad FROM generate_series(1, 50) i",
    );
    await server.sql("CREATE UNLOGGED TABLE unlogged AS SELECT i FROM generate_series(1, 1000) i");
    await server.sql("SELECT lo_from_bytea(4711, decode(repeat('cafe', 50000), 'hex'))");
    await archived.backup();
    await server.sql("UPDATE plain SET pad = md5(pad) WHERE i % 3 = 0");
    await server.sql("DELETE FROM moved WHERE i % 7 = 0");
    await server.sql("INSERT INTO toasted SELECT i + 100, pad FROM toasted");
    await server.sql("SELECT lo_put(4711, 1000, decode('00112233', 'hex'))");
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(1);
    const wanted = await contentsOf(server);
    await archived.stored();
    await archived.stopReceiving();

    const mapping = `${join(place, "link")}=${join(place, "restored")}`;
    await using restored = await archived.restored(["--tablespace-mapping", mapping]);
    expect(await contentsOf(restored)).toEqual(wanted);
    // As after every crash.
    expect(await restored.value("SELECT count(*)::text FROM unlogged")).toBe("0");
    const checksums = await oracleOf(restored, "pg_checksums");
    await restored.stop("fast");
    if (checksums !== undefined) await run(checksums, ["--check", "-D", restored.dataDir]);
    removeTree(place);
  },
  300_000,
);
