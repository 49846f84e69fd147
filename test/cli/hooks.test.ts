/** Hooks around backup, restore and expire, by hand and scheduled; and the heartbeat that stops when health is critical. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { statusOf, streaming } from "../daemon/hooked.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

let server: PostgresServer;
let dir: string;
beforeAll(async () => {
  dir = makeTempDir("hooks");
  server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  removeTree(dir);
});

interface Called {
  readonly event: string;
  readonly cluster: string;
  readonly exit?: number | null;
  readonly error?: { readonly code: string } | null;
}

/** A store, and a hook that writes down what it was given and then does as `script` says. */
function world(name: string, script = "") {
  const folder = join(dir, name);
  const [store, hook, seen] = ["store", "hook.sh", "seen"].map((part) => join(folder, part)) as [
    string,
    string,
    string,
  ];
  mkdirSync(store, { recursive: true });
  writeFileSync(hook, `#!/bin/sh\ncat >> ${seen}\nenv >> ${seen}.env\n${script}\n`);
  chmodSync(hook, 0o755);
  const run = (...args: readonly string[]) =>
    runCli([...args, "--store", `file://${store}`, "--hook", hook], { env: { PGPASSWORD: "secret-of-the-role" } });
  const calls = (): Called[] =>
    existsSync(seen)
      ? readFileSync(seen, "utf8")
          .split("\n")
          // What is not a whole line is still being written.
          .slice(0, -1)
          .map((line) => JSON.parse(line) as Called)
      : [];
  return { folder, store, hook, seen, run, calls };
}

const backup = (): string[] => ["backup", "--dsn", server.dsn, "--with-wal", "--checkpoint", "fast"];

test("a hook that prints megabytes is quoted with its last words, and without a secret of the environment", async () => {
  const flood = 'yes "noise" | head -c 5000000 >&2; yes | head -c 5000000';
  const { run } = world("flood", `${flood}; echo "secret-of-the-role: cannot stop the report" >&2; exit 9`);
  const answer = await run(...backup());
  expect(answer.code).toBe(3);
  expect(answer.stderr).toMatch(
    /failed: exit status 9: .*noise noise.*….* noise .*\[redacted\]: cannot stop the report \[hook-failed\]/,
  );
  expect(answer.stderr).not.toContain("secret-of-the-role");
});

test("a hook stands around backup, expire and restore, learns how they ended, and sees no secret", async () => {
  const { folder, seen, run, calls } = world("around");
  expect(await run(...backup())).toMatchObject({ code: 0 });
  expect(await run("expire", "--keep-full", "3", "--dry-run")).toMatchObject({ code: 0 });
  expect(await run("expire", "--keep-full", "3")).toMatchObject({ code: 0 });
  expect(await run("restore", "--target-dir", join(folder, "data"))).toMatchObject({ code: 0 });
  expect(await run("restore", "--target-dir", join(folder, "data"))).toMatchObject({ code: 3 });
  const told = calls().map(({ event, cluster, exit, error }) => [event, cluster, exit, error?.code]);
  expect(told).toEqual([
    ["before-backup", "main", undefined, undefined],
    ["after-backup", "main", 0, undefined],
    ["before-expire", "main", undefined, undefined],
    ["after-expire", "main", 0, undefined],
    ["before-restore", "main", undefined, undefined],
    ["after-restore", "main", 0, undefined],
    ["before-restore", "main", undefined, undefined],
    // The directory is not empty.
    ["after-restore", "main", null, expect.any(String)],
  ]);
  const env = readFileSync(`${seen}.env`, "utf8");
  expect(env).toContain("SEAWALL_EVENT=before-backup\n");
  expect(env).not.toContain("secret-of-the-role");
}, 180_000);

test("a hook that fails before the command keeps it from beginning; one that fails after it is a warning", async () => {
  const first = world("before", 'case "$SEAWALL_EVENT" in before-*) echo "the snapshot failed" >&2; exit 7;; esac');
  const refused = await first.run(...backup());
  expect(refused.code).toBe(3);
  expect(refused.stderr).toMatch(/--hook \S+ failed: exit status 7: the snapshot failed.*\[hook-failed\]/s);
  expect(readdirSync(first.store)).toEqual([]);
  expect(first.calls().map(({ event }) => event)).toEqual(["before-backup"]);

  const second = world("after", 'case "$SEAWALL_EVENT" in after-*) exit 7;; esac');
  const done = await second.run(...backup());
  expect(done.code).toBe(0);
  expect(done.stderr).toMatch(/"reason":"exit status 7","msg":"the hook failed after the command"/);
}, 180_000);

test("a hook that hangs is killed, and a stop does not wait for it", async () => {
  const hanging = world("hanging", "sleep 600");
  const ended = await hanging.run(...backup(), "--hook-timeout", "1s");
  expect([ended.code, ended.stderr]).toEqual([3, expect.stringContaining("did not end within 1 s") as unknown]);
  await using child = startCli([...backup(), "--store", `file://${hanging.store}`, "--hook", hanging.hook]);
  await until("the hook runs", () => hanging.calls().length === 2);
  expect(await child.end("SIGTERM")).toEqual({ code: 143, signal: null });
  expect(readdirSync(hanging.store)).toEqual([]);
}, 180_000);

test("a hook in the file holds for scheduled jobs; the heartbeat beats, and stops while health is critical", async () => {
  const { folder, store, hook, calls } = world("scheduled");
  let beats = 0;
  let answer = 200;
  const bodies: string[] = [];
  const receiver = createServer((request, response) => {
    request.setEncoding("utf8").on("data", (text: string) => bodies.push(text));
    request.on("end", () => {
      beats++;
      response.writeHead(answer).end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/secret-path-of-mine`;
  const file = join(folder, "seawall.yaml");
  const heart = { "heartbeat-url": url, "heartbeat-interval": "1s", "notify-after": "2s" };
  const jobs = { "backup-schedule": "*/5 * * * * *", "schedule-jitter": "0s", checkpoint: "fast", hook };
  const place = { store: `file://${store}`, dsn: server.dsn, slot: "hooks", listen: "127.0.0.1:0" };
  writeFileSync(
    file,
    JSON.stringify({ ...place, ...heart, ...jobs, "log-format": "json", "reconnect-max-delay": "200ms" }),
  );
  try {
    await using daemon = startCli(["receive", "--config", file]);
    const address = await streaming(daemon);
    await until("hooks of a scheduled backup", () =>
      calls().some(({ event, exit }) => event === "after-backup" && exit === 0),
    );
    await until("heartbeats", () => beats > 2);
    expect(JSON.parse(bodies[0] ?? "")).toMatchObject({ version: 1, cluster: "main" });
    answer = 500;
    const line = await daemon.waitForLine(/the heartbeat was not accepted/);
    expect(line).not.toContain("secret-path-of-mine");
    answer = 200;
    await daemon.waitForLine(/the heartbeat is accepted again/);

    await server.stop("immediate");
    await until("health is critical", async () => (await statusOf(address)).health.status === "critical");
    // One may have been on its way.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const before = beats;
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(beats).toBe(before);
    await server.start();
    await until("heartbeats again", () => beats > before);
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
  } finally {
    receiver.close();
  }
}, 240_000);
