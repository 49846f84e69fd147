/** A copy beside production: what `check`, `status` and the receiver's page say of it, from either side. */
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { putHistory, putSegment } from "../../src/archive/wal/objects.ts";
import { silentLog } from "../../src/log.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { watchRivals } from "../../src/daemon/status/rival-watch.ts";
import { MARK_SETTING } from "../../src/replication/restore-mark.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, addBytes, segmentStart } from "../../src/wal/lsn.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "../receive/receiving.ts";

interface Checked {
  readonly code: number | null;
  readonly line: readonly { readonly verdict: string; readonly message: string; readonly remedy: string | null }[];
}

test("check says whether receive would refuse the server; status, page and metrics name a rival that writes", async () => {
  const folder = makeTempDir("rivals");
  const url = `file://${folder}/store`;
  try {
    mkdirSync(join(folder, "store"));
    const store = new FileStore(join(folder, "store"));
    await using primary = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    await primary.sql("CREATE TABLE t (i int)");
    {
      await using receiver = receive(primary, store);
      await receiver.stored(await flushLsn(primary));
      await receiver.stop();
    }
    await using copy = await primary.cloneAsStandby();
    appendFileSync(join(copy.dataDir, "postgresql.auto.conf"), `${MARK_SETTING} = 'main backup 2026-03-02'\n`);
    await copy.sql("SELECT pg_reload_conf()");
    await copy.promote();

    const check = async (dsn: string): Promise<Checked> => {
      const { code, stdout } = await runCli(["check", "--dsn", dsn, "--store", url, "--json"]);
      const { findings } = JSON.parse(stdout) as {
        readonly findings: readonly (Checked["line"][number] & { name: string })[];
      };
      return { code, line: findings.filter(({ name }) => name === "line" || name === "rival") };
    };
    expect(await check(primary.dsn)).toMatchObject({
      code: 0,
      line: [{ verdict: "ok", message: "this server is on the archive's line, timeline 1" }],
    });
    const refused = await check(copy.dsn);
    expect(refused).toMatchObject({ code: 1, line: [{ verdict: "fail" }] });
    expect(refused.line[0]?.message).toContain("receive would refuse this server: the server is a restored copy");
    expect(refused.line[0]?.remedy).toContain("--take-over 1");

    // What an older version's receiver, or another archiver, left of the copy.
    const archive = await openArchive(store, "main");
    const { segmentSize } = archive.identity;
    const [row] = await copy.sql("SELECT pg_read_file('pg_wal/00000002.history') AS text");
    await putHistory(archive, 2 as TimelineId, Buffer.from(String(row?.["text"])));
    const place = { timeline: 2 as TimelineId, segment: 900 as SegmentNumber, segmentSize };
    const endLsn: Lsn = addBytes(segmentStart(place.segment, segmentSize), segmentSize);
    const facts = { startLsn: segmentStart(place.segment, segmentSize), endLsn, verifiedLsn: endLsn };
    await putSegment(archive, place, Buffer.alloc(segmentSize), facts, { confirm: false });
    await store.close();
    expect((await check(primary.dsn)).line.map(({ verdict }) => verdict)).toEqual(["ok", "warn"]);

    await using receiver = startCli(["receive", "--dsn", primary.dsn, "--store", url, "--listen", "127.0.0.1:0"]);
    const line = await receiver.waitForLine(/"address":"/);
    const address = /"address":"([^"]+)"/.exec(line)?.[1] ?? "";
    const status = async (): Promise<StatusDocument> =>
      (await (await fetch(`http://${address}/status.json`)).json()) as StatusDocument;
    await expect
      .poll(async () => (await status()).rivals, { timeout: 60_000 })
      .toMatchObject([{ timeline: 2, kind: "stray", isActive: true }]);
    expect(await (await fetch(`http://${address}/metrics`)).text()).toMatch(/seawall_archive_rivals\S* 1\n/);
    expect(await (await fetch(`http://${address}/`)).text()).toContain("another server writes into this archive");
    expect((await fetch(`http://${address}/readyz`)).status).toBe(200);
    const shown = await runCli(["status", "--listen", address]);
    expect(shown.stdout).toMatch(/\nrival +timeline 2 was never the archive's line/);
    await receiver.end("SIGTERM");
  } finally {
    removeTree(folder);
  }
});

test("rivals are looked for when streaming begins, and again only after new WAL was stored", async () => {
  const folder = makeTempDir("rivals");
  try {
    const store = new FileStore(join(folder, "store"));
    const state = new ReceiverState({
      cluster: "main",
      synchronous: false,
      durability: "store",
      nowMs: () => Date.now(),
    });
    const ended = new AbortController();
    let looks = 0;
    const failing = { ...silentLog, warn: () => void looks++ };
    const options = { store, cluster: "main", state, onRivals: () => undefined, log: failing, intervalMs: 0 };
    const watching = watchRivals({ ...options, signal: ended.signal });
    const pause = async (): Promise<unknown> => new Promise((resolve) => setTimeout(resolve, 1_500));
    await pause();
    expect(looks).toBe(0);
    state.phase = "streaming";
    state.storedLsn = 1n as Lsn;
    await pause();
    expect(looks).toBe(1);
    state.storedLsn = 2n as Lsn;
    await pause();
    expect(looks).toBe(2);
    ended.abort();
    await watching;
    await store.close();
  } finally {
    removeTree(folder);
  }
});
