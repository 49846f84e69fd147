/** pg_waldump reads a real server's segment in which the path of a new tablespace is empty. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { emptyLocation } from "../../src/wal/empty-location.ts";
import { bytesBetween, formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { WalVerifier } from "../../src/wal/verifier.ts";
import { startPostgres, tool } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const SYSTEM = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;

test.skipIf(!SYSTEM)("pg_waldump reads a real server's segment with it", async () => {
  await using server = await startPostgres({ system: true, segmentSizeMiB: 1 });
  const places = makeTempDir("places");
  await server.sql("SELECT pg_switch_wal()");
  const from = await server.currentFlushLsn();
  await server.sql(`CREATE TABLESPACE late LOCATION '${makeTablespaceFolder(join(places, "late"))}'`);
  await server.sql("CREATE TABLE t TABLESPACE late AS SELECT generate_series(1, 100) i");
  const end = await server.currentFlushLsn();
  const segment = segmentOf(from, server.segmentSize);
  const name = segmentFileName(timelineOf(1), segment, server.segmentSize);
  const bytes = readFileSync(join(server.walDir, name));
  const startLsn = segmentStart(segment, server.segmentSize);
  const systemIdentifier = await server.systemIdentifier();
  const options = { systemIdentifier, segmentSize: server.segmentSize, startLsn, history: rootHistory(timelineOf(1)) };
  const verifier = new WalVerifier(options);
  verifier.push(bytes.subarray(0, bytesBetween(startLsn, end)));
  const [created] = verifier.openSummary().changes ?? [];
  if (created === undefined) throw new Error("no tablespace was found");
  const dump = async (file: string): Promise<string[]> => {
    const { stdout } = await run(tool("pg_waldump") ?? "", ["-s", formatLsn(from), "-e", formatLsn(end), file]);
    return stdout.split("\n");
  };
  const original = await dump(join(server.walDir, name));
  emptyLocation(bytes, bytesBetween(startLsn, created.lsn));
  writeFileSync(join(places, name), bytes);
  const changed = await dump(join(places, name));
  const different = changed.filter((line, at) => line !== original[at]);
  expect(changed).toHaveLength(original.length);
  expect(different).toHaveLength(1);
  expect(different[0]).toMatch(/desc: CREATE \d+ ""$/);
  removeTree(places);
});
