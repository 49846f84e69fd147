/** The daemon's notifications with a real server, a real webhook and a real program: what is told, once, and what never is. */
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { Hooked, SECRETS, statusOf, streaming } from "./hooked.ts";

const FORGETTING = { wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };

let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

test("an outage, its end, and a gap: told once, to webhook and program, over restarts, without a secret anywhere", async () => {
  const cluster = "outage";
  const seen = join(hooked.dir, "seen");
  const hook = join(hooked.dir, "hook.sh");
  writeFileSync(
    hook,
    `#!/bin/sh\ncat >> ${seen}.bodies\nenv >> ${seen}.env\ntr '\\0' ' ' < /proc/$$/cmdline >> ${seen}.argv\n`,
  );
  chmodSync(hook, 0o755);
  const flags = ["--notify-command", hook];
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1, settings: FORGETTING });
  const logs: string[] = [];
  {
    await using daemon = hooked.daemon(server, cluster, flags);
    const address = await streaming(daemon);
    await server.stop("immediate");
    await until("the outage", () => hooked.eventsOf(cluster).includes("receiver-stalled"), 30_000);
    await server.start();
    await until("its end", () => hooked.eventsOf(cluster).includes("receiver-recovered"), 60_000);
    expect(hooked.bodyOf(cluster, "receiver-stalled")).toMatchObject({
      ...{ version: 1, severity: "critical", systemIdentifier: (await server.systemIdentifier()).toString() },
      text: expect.stringMatching(/^Seawall outage: no WAL has been received for .*\[server-unreachable\]$/) as unknown,
      details: { kind: "not-receiving", code: "server-unreachable" },
    });
    await until(
      "both told",
      async () => (await statusOf(address)).notifications?.channels.every(({ delivered }) => delivered === 2) === true,
    );
    const metrics = await (await fetch(`http://${address}/metrics`)).text();
    expect(metrics).toMatch(/seawall_notifications_total\{channel="command",outcome="delivered",cluster="outage"\} 2/);
    const shown = await runCli(["status", "--listen", address]);
    expect(shown.stdout).toMatch(/^webhook +2 delivered, 0 waiting, 0 lost/m);
    logs.push(metrics, shown.stdout, JSON.stringify(await statusOf(address)));
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    logs.push(daemon.stderr);
  }
  await loseWal(server, cluster);
  for (let start = 0; start < 2; start++) {
    await using daemon = hooked.daemon(server, cluster, flags);
    await streaming(daemon);
    await until("the gap", () => hooked.eventsOf(cluster).includes("gap-recorded"), 60_000);
    // The last one sees the gap, too, and an outage after it: that is what is told.
    if (start === 1) await server.stop("immediate");
    if (start === 1) await until("another outage", () => hooked.count(cluster, "receiver-stalled") === 2, 60_000);
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    logs.push(daemon.stderr);
  }
  expect(hooked.eventsOf(cluster)).toEqual([
    "receiver-stalled",
    "receiver-recovered",
    "gap-recorded",
    "receiver-stalled",
  ]);
  expect(hooked.bodyOf(cluster, "gap-recorded")).toMatchObject({ severity: "critical", details: { timeline: 1 } });

  const told = hooked.received.filter(({ body }) => body.cluster === cluster).map(({ text }) => text);
  expect(readFileSync(`${seen}.bodies`, "utf8")).toBe(told.join(""));
  expect(readFileSync(`${seen}.env`, "utf8")).toMatch(/^SEAWALL_EVENT=gap-recorded$/m);
  expect(new Set(hooked.received.map(({ token }) => token))).toEqual(new Set([SECRETS.token]));
  const everything = [...logs, ...told, readFileSync(`${seen}.env`, "utf8"), readFileSync(`${seen}.argv`, "utf8")].join(
    "\n",
  );
  for (const secret of Object.values(SECRETS)) expect(everything).not.toContain(secret);
}, 180_000);

/** Drops the slot and has the server forget what it kept. */
async function loseWal(server: PostgresServer, slot: string): Promise<void> {
  const [first] = server.walFiles();
  await server.dropSlot(slot);
  await server.sql("CREATE TABLE IF NOT EXISTS t (i int, pad text)");
  for (let round = 0; round < 20; round++) {
    await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i");
    await server.sql("CHECKPOINT");
    if (round > 2 && !server.walFiles().includes(first ?? "")) return;
  }
  throw new Error("the server kept its WAL");
}

test("a receiver that ends by an error tells so before it is gone, once, however often it is started", async () => {
  const cluster = "failing";
  // On a busy machine a start may take longer than the time after which a stall is told.
  const failures = (): string[] => hooked.eventsOf(cluster).filter((event) => event !== "receiver-stalled");
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  {
    await using daemon = hooked.daemon(server, cluster);
    await streaming(daemon);
    await daemon.end("SIGTERM");
  }
  const stranger = { dsn: server.dsn.replace("postgres@", "nobody_of_that_name@") };
  for (let start = 0; start < 3; start++) {
    await using daemon = hooked.daemon(stranger, cluster);
    expect((await daemon.ended()).code).toBe(4);
  }
  expect(failures()).toEqual(["receiver-failed"]);
  expect(hooked.bodyOf(cluster, "receiver-failed")).toMatchObject({
    severity: "critical",
    details: { code: "server-auth" },
  });
  // Another cluster's archive is not to be written to: that is told each time.
  await using other = await startPostgres({ version: 18, segmentSizeMiB: 1, freshIdentifier: true });
  const notices = (): string[] => readdirSync(join(hooked.dir, cluster, cluster, "notices"));
  const before = notices();
  {
    await using daemon = hooked.daemon(other, cluster);
    expect((await daemon.ended()).code).toBe(6);
  }
  expect(failures()).toEqual(["receiver-failed", "receiver-failed"]);
  const latest = hooked.received.filter(({ body }) => body.cluster === cluster).at(-1);
  expect(latest?.body).toMatchObject({ details: { code: "foreign-cluster" } });
  expect(notices()).toEqual(before);
}, 120_000);
