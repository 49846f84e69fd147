/** With a real server and a real S3: a store that is away, and a scheduled drill that passes; what is told of it. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { startPostgres } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { startProxy } from "../store/scripted-s3.ts";
import { Hooked, statusOf, streaming } from "./hooked.ts";

const s3 = await startS3();
interface Asked {
  readonly method: string;
}

let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

describe.skipIf(!s3.available)(`with S3${s3.available ? "" : ` (${s3.reason})`}`, () => {
  it.each([
    ["that takes no more writes", "not-storing", [], ({ method }: Asked) => method === "PUT"],
    ["that answers nothing at all, behind a spool", "not-uploading", ["--durability", "spool"], () => true],
  ] as const)(
    "a store %s is told as %s while the server is streamed from, and its return",
    async (_name, kind, flags, isAway) => {
      const cluster = kind.replace("-", "_");
      let away = false;
      await using bucket = await s3.bucket();
      await using proxy = await startProxy(s3.endpoint, (asked) =>
        away && isAway(asked) ? { kind: "answer", answer: { status: 503 } } : undefined,
      );
      await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
      const url = bucket.url.replace(encodeURIComponent(s3.endpoint), encodeURIComponent(proxy.endpoint));
      const spool = join(hooked.dir, `${cluster}-spool`);
      mkdirSync(spool);
      const place = [
        "--store",
        url,
        "--ship-interval",
        "100ms",
        ...flags,
        ...(flags.length === 0 ? [] : ["--spool-dir", spool]),
      ];
      await using daemon = hooked.daemon(server, cluster, place, s3.env);
      const address = await streaming(daemon);
      away = true;
      await server.sql("CREATE TABLE while_away (i int)");
      await until("the outage", () => hooked.count(cluster, "receiver-stalled") === 1, 60_000);
      expect((await statusOf(address)).state).toBe("streaming");
      expect(hooked.bodyOf(cluster, "receiver-stalled")).toMatchObject({
        details: { kind, code: expect.stringMatching(/^store-/) as unknown },
      });
      away = false;
      await until("its end", () => hooked.count(cluster, "receiver-recovered") === 1, 60_000);
      expect(hooked.eventsOf(cluster)).toEqual(["receiver-stalled", "receiver-recovered"]);
      expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    },
    120_000,
  );

  it("a drill that passes is told with recovery point, recovery time and backup", async () => {
    const cluster = "drilled";
    await using bucket = await s3.bucket();
    await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
    const account = serverAccount();
    const place = ["--store", bucket.url, "--cluster", cluster];
    const env = {
      ...s3.env,
      SEAWALL_PG_BIN: (await embeddedBinaries(18)).binDir,
      SEAWALL_SCRATCH_DIR: hooked.dir,
      SEAWALL_RESTORE_COMMAND: serverRestoreCommand(place, { env: s3.env }),
      ...(account === undefined ? {} : { SEAWALL_OWNER: account.name }),
      SEAWALL_CHECKPOINT: "fast",
    };
    const routine = ["--backup-schedule", "0 0 1 1 *", "--drill-schedule", "*/3 * * * * *", "--schedule-jitter", "0s"];
    await using daemon = hooked.daemon(server, cluster, [...place, ...routine], env);
    await streaming(daemon);
    await until("a drill that passed", () => hooked.count(cluster, "drill-passed") > 0, 90_000);
    const body = hooked.bodyOf(cluster, "drill-passed");
    expect(body).toMatchObject({ severity: "info", details: { job: "drill", timeline: 1, failed: [] } });
    expect(body?.text).toMatch(
      /^Seawall drilled: the drill of backup 2\d{7}T\d{6}Z-[0-9a-f]{8} passed: recovered to [0-9A-F/]+ in /,
    );
    const { promisedLsn, reachedLsn, restoreSeconds, recoverySeconds, backup } = body?.details ?? {};
    expect(parseLsn(String(reachedLsn))).toBeGreaterThanOrEqual(parseLsn(String(promisedLsn)));
    expect([typeof restoreSeconds, typeof recoverySeconds, typeof backup]).toEqual(["number", "number", "string"]);
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
  }, 180_000);
});
