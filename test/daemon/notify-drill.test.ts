/** A scheduled drill that passes, with a real server and a real S3: what is told of it. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { startPostgres } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { Hooked, streaming } from "./hooked.ts";

const s3 = await startS3();
let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

describe.skipIf(!s3.available)(`with S3${s3.available ? "" : ` (${s3.reason})`}`, () => {
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
