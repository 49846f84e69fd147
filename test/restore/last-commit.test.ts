/** The end of a window is in it: the time that `list` names as the last commit's can be recovered to, and shows that commit. */
import { expect, test } from "vitest";
import { segmentKey, walPrefix } from "../../src/archive/keys.ts";
import { formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { keysBelow } from "../store/keys-below.ts";
import { newestUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { flushLsn } from "../receive/receiving.ts";
import { Archived, rowsOf } from "./restored.ts";

const MIB = 1 << 20;

async function windowTimes(archived: Archived): Promise<{ fromTime: string; toTime: string }[]> {
  const { stdout } = await runCli(["list", "--store", archived.url, "--json"]);
  return (JSON.parse(stdout) as { windows: { fromTime: string; toTime: string }[] }).windows;
}

async function expectRows(archived: Archived, flags: readonly string[], rows: readonly number[]): Promise<void> {
  await using restored = await archived.restored(flags);
  expect({ flags, rows: await rowsOf(restored) }).toEqual({ flags, rows });
  const { stdout } = await runCli(["restore", "--check", restored.dataDir, "--json"]);
  expect({ flags, verdict: JSON.parse(stdout) as unknown }).toMatchObject({ verdict: { ok: true } });
  await restored.stop("immediate");
}

test.each([newestUnderTest()])(
  "PostgreSQL %i: the time of the very last commit is reached, at the archive's end and before a gap",
  async (version) => {
    await using archived = await Archived.start({ version });
    const { server } = archived;
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(3);
    // WAL behind it without a commit.
    await server.sql("SELECT pg_switch_wal(), pg_create_restore_point('behind')");
    await archived.stored();
    const [whole] = await windowTimes(archived);
    const missing = segmentOf(await flushLsn(server), MIB);
    await archived.insert(4);
    await server.sql("SELECT pg_switch_wal()");
    const after = await archived.insert(5);
    await archived.stored();
    await archived.stopReceiving();
    const [longer] = await windowTimes(archived);
    expect(longer?.fromTime).toBe(whole?.fromTime);

    await expectRows(archived, ["--target-time", longer?.toTime ?? ""], [1, 2, 3, 4, 5]);
    await expectRows(archived, ["--target-time", longer?.toTime ?? "", "--target-exclusive"], [1, 2, 3, 4]);
    // More may have been committed behind it.
    const beyond = `${String(Number((longer?.toTime ?? "").slice(0, 4)) + 1)}${(longer?.toTime ?? "").slice(4)}`;
    const refused = await archived.run(["--target-dir", "/nowhere", "--target-time", beyond, "--dry-run"]);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toContain(`the last one is of ${longer?.toTime}`);

    // The last commit before a gap is the end of a window, too, whatever is archived behind it.
    const key = segmentKey("main", { timeline: timelineOf(1), segment: missing, segmentSize: MIB });
    expect(await keysBelow(archived.store, walPrefix("main"))).toContain(key);
    await archived.store.delete([key]);
    const [before] = await windowTimes(archived);
    expect(before).toEqual({ ...whole, toLsn: formatLsn(segmentStart(missing, MIB)) });
    await expectRows(archived, ["--target-time", before?.toTime ?? ""], [1, 2, 3]);
    const behind = await archived.run(["--target-dir", "/nowhere", "--target-lsn", after.before, "--dry-run"]);
    expect(behind.stderr).toMatch(/behind a gap/);
  },
  240_000,
);
