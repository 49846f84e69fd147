/**
 * The password of Seawall's role is changed while the receiver runs (docs/connecting.md, "Change the password"): the stream goes
 * on, the status says that the old password is refused and where it came from, and the new one is used without a restart.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { statusOf, streaming } from "./hooked.ts";

const SCRAM = ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256"];
const HBA = [...SCRAM, "host replication all 127.0.0.1/32 scram-sha-256"];
const WAIT_MS = 120_000;

let dir: string;
beforeAll(() => {
  dir = makeTempDir("rotation");
});
afterAll(() => removeTree(dir));

// Most of the time passes between two looks of the daemon, so the versions wait side by side.
describe.concurrent.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test("a changed password is missed by the watch first, and read anew for stream, watch and jobs", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, hba: HBA });
    const setPassword = async (password: string): Promise<unknown> =>
      server.sql(`ALTER ROLE seawall PASSWORD '${password}'`);
    await server.sql("CREATE ROLE seawall LOGIN REPLICATION");
    await setPassword("first secret");
    const store = join(dir, `store-${version}`);
    mkdirSync(store);
    const passfile = join(dir, `pgpass-${version}`);
    const writePassfile = (password: string): void => {
      writeFileSync(passfile, `127.0.0.1:${server.port}:*:seawall:${password}\n`);
      chmodSync(passfile, 0o600);
    };
    writePassfile("first secret");
    const env = { PGPASSFILE: passfile, SEAWALL_CHECKPOINT: "fast" };
    const dsn = `postgresql://seawall@127.0.0.1:${server.port}/postgres`;
    const place = ["--dsn", dsn, "--store", `file://${store}`, "--listen", "127.0.0.1:0"];
    const flags = ["--log-format", "json", "--reconnect-max-delay", "200ms"];
    const jobs = ["--backup-schedule", "*/10 * * * * *", "--schedule-jitter", "0s"];
    await using daemon = startCli(["receive", ...place, ...flags, ...jobs], { env });
    const address = await streaming(daemon);
    const slotState = async () => (await statusOf(address)).slotHealth?.state;
    await until("the slot is seen", async () => (await slotState()) === "ok", WAIT_MS);

    await setPassword("second secret");
    await until("the old password is refused", async () => (await slotState()) === "unseen", WAIT_MS);
    expect((await statusOf(address)).slotError).toMatchObject({
      code: "server-auth",
      message: expect.stringContaining("password authentication failed") as unknown,
      hint: `The password came from ${passfile}: correct it there.`,
    });
    // The stream was let in before.
    expect((await statusOf(address)).state).toBe("streaming");
    const shown = await runCli(["status", "--listen", address]);
    expect(shown.stdout).toMatch(/^slot +unknown since .+: .*password authentication failed.*\[server-auth\]$/m);

    writePassfile("second secret");
    const { jobs: before } = await statusOf(address);
    await until("the slot is seen again", async () => (await slotState()) === "ok", WAIT_MS);
    await server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    await until(
      "the stream is back",
      async () => {
        const { counters, state } = await statusOf(address);
        return state === "streaming" && (counters?.reconnects ?? 0) > 0;
      },
      WAIT_MS,
    );
    await until(
      "a backup with the new password",
      async () => {
        const [job] = (await statusOf(address)).jobs;
        return job?.last?.ok === true && job.runs > (before[0]?.runs ?? 0);
      },
      WAIT_MS,
    );
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(daemon.stderr).not.toMatch(/(first|second) secret/);
  }, 600_000);
});
