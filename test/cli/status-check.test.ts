/** `seawall status --check`: the exit statuses, the line and the performance data that monitoring systems read. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { renderStatus } from "../../src/cli/views/status.ts";
import { nagiosText } from "../../src/cli/views/status-check.ts";
import { type HttpServer, startHttp } from "../../src/daemon/http/server.ts";
import { judged } from "../../src/daemon/health/health.ts";
import type { StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import { EXIT } from "../../src/error-kinds.ts";
import { silentLog } from "../../src/log.ts";
import { History } from "../../src/daemon/status/history.ts";
import { statusFixture } from "../daemon/fixture.ts";
import { ROOT } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { runCli } from "../harness/process.ts";

let shown: StatusDocument[] = [];
let http: HttpServer;
let several = false;

beforeAll(async () => {
  http = await startHttp({
    listen: { kind: "tcp", host: "127.0.0.1", port: 0 },
    log: silentLog,
    site: {
      get several() {
        return several;
      },
      names: () => [],
      clusters: () =>
        shown.map((status) => ({
          name: status.cluster,
          status: () => status,
          history: new History(),
          recovery: () => null,
        })),
      configuration: () => null,
      metrics: async () => Promise.resolve({ contentType: "text/plain", text: "" }),
      version: "0",
    },
  });
});
afterAll(async () => http.close());

/** Runs the check against a receiver that shows these. */
async function check(statuses: readonly Partial<StatusFacts>[], ...args: string[]): ReturnType<typeof runCli> {
  shown = statuses.map((changes) => statusFixture({ errors: [], ...changes }));
  several = shown.length > 1;
  return runCli(["status", "--listen", http.address, "--check", ...args]);
}

const HOUR = 3_600_000;
const stalled = { isStoreStalled: true, storeWaitSeconds: 300 };
const archive = {
  backup: { id: "20261120T020000Z-0badcafe", finishedAt: "2026-11-20T02:00:00.500Z", bytes: 1 },
  ...{ verify: null, drill: { finishedAt: "2026-11-18T10:00:00.500Z", ok: true } },
};

describe("the exit status", () => {
  test.each([
    {
      title: "0: streaming",
      state: {},
      args: [],
      exit: 0,
      line: /^SEAWALL OK: orders: streaming, recovery point 412 ms \| /,
    },
    {
      title: "1: connecting",
      state: { state: "connecting", notReceivingSince: "2026-11-20T09:59:50.500Z" } as const,
      args: [],
      exit: 1,
      line: /^SEAWALL WARNING: orders: no WAL has been received for 10 s \(connecting\) \|/,
    },
    {
      title: "2: nothing stored",
      state: stalled,
      args: [],
      exit: 2,
      line: /^SEAWALL CRITICAL: orders: the store has confirmed nothing for 5 min 0 s/,
    },
    {
      title: "0: within the limit",
      state: { archive },
      args: ["--max-rpo", "30s", "--max-backup-age", "26h", "--max-drill-age", "8d"],
      exit: 0,
      line: /^SEAWALL OK: .*last backup 2026-11-20 02:00:00Z \| .*rpo=0.412s;;30;0 .*backup_age=28800s;;93600;0 drill_age=172800s;;691200;0\n$/,
    },
    {
      title: "2: a backup that is too old",
      state: { archive },
      args: ["--max-backup-age", "7h"],
      exit: 2,
      line: /^SEAWALL CRITICAL: orders: the age of the last backup: 8 h 0 min; at most 7 h/,
    },
    {
      title: "2: no drill is known",
      state: {},
      args: ["--max-drill-age", "8d"],
      exit: 2,
      line: /the age of the last drill: not known/,
    },
  ])("$title", async ({ state, args, exit, line }) => {
    const answer = await check([state], "--nagios", ...args);
    expect(answer.code).toBe(exit);
    expect(answer.stdout).toMatch(line);
    expect(answer.stdout.split("\n")).toHaveLength(2);
    expect((await check([state], ...args)).code).toBe(exit);
  });

  test("of several clusters the worst counts, and is named first", async () => {
    const answer = await check(
      [{ cluster: "a" }, { cluster: "b", rpoSeconds: 100 }, { cluster: "c", ...stalled }],
      "--nagios",
    );
    expect(answer.code).toBe(2);
    expect(answer.stdout).toMatch(
      /^SEAWALL CRITICAL: 1 critical, 1 warning of 3 clusters: c: the store .*; b: the oldest commit/,
    );
    expect(answer.stdout).toMatch(/ a_rpo=0.412s;;;0 .* b_rpo=100s;;;0 .* c_rpo=0.412s;;;0 /);
    expect(answer.stdout.trimEnd().split("\n").slice(1)).toEqual([
      expect.stringMatching(/^c: critical: the store has confirmed nothing/),
      expect.stringMatching(/^b: warning: the oldest commit/),
      "a: ok: streaming, recovery point 412 ms",
    ]);
    const words = await check([{ cluster: "a" }, { cluster: "c", ...stalled }]);
    expect(words.stdout).toMatch(/^critical: 1 critical of 2 clusters\nc: critical\n(.|\n)*^a: ok\n/m);
    expect((await check([{ cluster: "a" }, { cluster: "b" }], "--nagios")).stdout).toMatch(
      /^SEAWALL OK: 2 clusters \|/,
    );
  });

  test("a receiver that does not answer is critical", async () => {
    const away = await runCli(["status", "--listen", "127.0.0.1:1", "--check", "--nagios"]);
    expect(away.code).toBe(2);
    const told = "main: no receiver answers: 127.0.0.1:1: no process listens there";
    expect(away.stdout).toBe(`SEAWALL CRITICAL: ${told}\n`);
    const json = await runCli(["status", "--listen", "127.0.0.1:1", "--all", "--json"]);
    const [only] = (JSON.parse(json.stdout) as { clusters: StatusDocument[] }).clusters;
    expect(`${only?.cluster ?? ""}: ${only?.health.findings[0]?.what ?? ""}`).toBe(told);
  });

  test("without a receiver, status names the server and the store that it could not reach either", async () => {
    const args = [
      "--listen",
      "127.0.0.1:1",
      "--dsn",
      "host=127.0.0.1 port=1 user=x",
      "--store",
      `file://${ROOT}/nowhere`,
    ];
    const { code, stderr } = await runCli(["status", ...args, "--store-retry-for", "0s"]);
    expect(code).toBe(EXIT.store);
    for (const part of [/no receiver answers: 127.0.0.1:1/, /127.0.0.1:1: connection refused/, /nowhere/]) {
      expect(stderr).toMatch(part);
    }
  });

  test("a receiver that stores elsewhere is critical, and every voice of status says where", async () => {
    const [own, other] = [`file://${ROOT}/test/fixtures/archive`, "s3://backups/production"];
    const serving = { cluster: "main", store: other };
    const what = `the receiver there stores into ${other}, and not into ${own}`;
    for (const store of [own, `file://${ROOT}/nowhere`]) {
      const { code, stdout } = await check([serving], "--nagios", "--store", store);
      expect(code).toBe(2);
      expect(stdout).toMatch(
        /^SEAWALL CRITICAL: main: the receiver there stores into s3:\S+, and not into file:\S+(;| \|)/,
      );
    }
    const words = await check([serving], "--store", own);
    expect(words.stdout).toContain(`critical  ${what}\n`);
    const json = await check([serving], "--json", "--store", own);
    const { clusters } = JSON.parse(json.stdout) as { clusters: StatusDocument[] };
    expect(clusters[0]?.health.findings[0]).toMatchObject({ kind: "stores-elsewhere", what });
    const status = await runCli(["status", "--listen", http.address, "--store", own]);
    expect(status.stdout).toContain(`No receiver of this archive answers (${what})`);
    expect(status.stdout).toContain(`critical  ${what}\n`);
    const dir = makeTempDir("status-check");
    const config = join(dir, "seawall.yaml");
    writeFileSync(config, `clusters:\n  main:\n    store: ${own}\n  billing:\n    store: ${other}\n`);
    const all = await check([serving, { cluster: "billing", store: other }], "--nagios", "--config", config);
    expect(all.stdout).toContain(`\nmain: critical: ${what}`);
    removeTree(dir);
  });

  test("a store that answers nothing delays the receiver's answer for seconds only", async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as AddressInfo;
    const url = `s3://backups/production?endpoint=${encodeURIComponent(`http://127.0.0.1:${port}`)}`;
    shown = [statusFixture({ errors: [], store: null })];
    several = false;
    const env = { AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "secret", AWS_REGION: "eu-central-1" };
    const patient = ["--store", url, "--store-timeout", "10m", "--store-retry-for", "10m"];
    const answer = await runCli(["status", "--listen", http.address, "--check", "--nagios", ...patient], { env });
    silent.closeAllConnections();
    silent.close();
    expect(answer.stdout).toMatch(/^SEAWALL OK: /);
    expect(answer.stderr).toContain("the store does not answer: the archive is shown as the receiver saw it last");
  });

  test("a mistyped name is unknown, not a cluster in trouble", async () => {
    const served = await check([{ cluster: "orders" }], "--nagios", "--cluster", "odrers");
    expect(served.code).toBe(3);
    expect(served.stdout).toMatch(
      /^SEAWALL UNKNOWN: --cluster: no cluster "odrers" is known: the receiver there serves /,
    );
    const several = await check([{ cluster: "a" }, { cluster: "b" }], "--nagios", "--cluster", "c");
    expect(several.code).toBe(3);
    expect(several.stdout).toMatch(/ no cluster "c" is known: the receiver there serves a, b\n$/);

    const store = `file://${ROOT}/test/fixtures/archive`;
    for (const args of [
      ["status", "--listen", http.address],
      ["status", "--listen", "127.0.0.1:1"],
    ]) {
      const stored = await runCli([...args, "--check", "--nagios", "--store", store, "--cluster", "mian"]);
      expect(stored.code).toBe(3);
      expect(stored.stdout).toMatch(
        /^SEAWALL UNKNOWN: --cluster: no cluster "mian" is known: no archive of cluster "mian"/,
      );
      expect(stored.stderr).toMatch(/^hint: It has main: choose with --cluster\.$/m);
    }
    // The store has it, and no receiver serves it.
    const idle = await check([{ cluster: "orders" }], "--nagios", "--store", store, "--cluster", "main");
    expect(idle.code).toBe(2);
    // The store cannot be asked: the name may be right.
    const away = await check([{}], "--nagios", "--store", `file://${ROOT}/nowhere`, "--cluster", "mian");
    expect(away.code).toBe(2);
  });

  test("a name that only the environment has may be mistyped too, and one of the file is the receiver's own", async () => {
    shown = [statusFixture({ errors: [] })];
    several = false;
    const args = ["status", "--listen", http.address, "--check", "--nagios"];
    expect((await runCli(args, { env: { SEAWALL_CLUSTER: "odrers" } })).code).toBe(3);
    const dir = makeTempDir("status-check");
    const config = join(dir, "seawall.yaml");
    writeFileSync(config, "cluster: odrers\n");
    expect((await runCli([...args, "--config", config])).code).toBe(2);
    removeTree(dir);
  });

  test.each([
    { title: "a limit without its unit", args: ["--check", "--nagios", "--max-rpo", "30"], says: /"30" has no unit/ },
    { title: "an unknown option", args: ["--check", "--nagios", "--max-rop", "30s"], says: /--max-rop/ },
    { title: "an address that is none", args: ["--check", "--nagios", "--listen", "here"], says: /not an address/ },
    {
      title: "a file that is not there",
      args: ["--check", "--nagios", "--config", "/nowhere/seawall.yaml"],
      says: /cannot read/,
    },
    { title: "a store that is none", args: ["--check", "--nagios", "--store", "/var/lib/x"], says: /not a store URL/ },
  ])("3: $title, on standard output too", async ({ args, says }) => {
    const answer = await runCli(["status", ...args]);
    expect(answer.code).toBe(3);
    expect(answer.stdout).toMatch(/^SEAWALL UNKNOWN: [^|\n]*\n$/);
    expect(answer.stdout).toMatch(says);
    expect(answer.stderr).toMatch(says);
  });

  test.each([["--max-rpo", "30s"], ["--nagios"], ["--max-backup-age", "1d"], ["--max-drill-age", "1d"]])(
    "%s without --check is refused as wrong usage",
    async (...args) => {
      const answer = await runCli(["status", "--listen", "127.0.0.1:1", ...args.filter((arg) => arg !== undefined)]);
      expect(answer.code).toBe(2);
      expect(answer.stderr).toMatch(/has a meaning only with --check/);
    },
  );

  test("--json gives the word and every cluster's findings", async () => {
    const answer = await check([stalled], "--json");
    expect(answer.code).toBe(2);
    const result = JSON.parse(answer.stdout) as { readonly status: string; readonly clusters: readonly unknown[] };
    expect(result.status).toBe("critical");
    expect(result.clusters).toEqual([{ cluster: "orders", health: shown[0]?.health }]);
    expect((await check([{}], "--json", "--nagios")).code).toBe(3);
  });
});

describe("the line", () => {
  test("keeps bars and line breaks out of its text, and has no more than one bar", () => {
    const errors = [{ at: "2026-11-20T10:00:00.000Z", code: "x", message: "a | b\nc", hint: "", times: 1 }];
    const status = statusFixture({ state: "waiting", notReceivingSince: "2026-11-20T09:59:00.000Z", errors });
    const line = nagiosText([status], {});
    expect(line).toContain("a / b c");
    expect(line.split("|")).toHaveLength(2);
  });

  test("leaves out what is not known", () => {
    const unknown = { rpoSeconds: null, lagBytes: null, storeWaitSeconds: null, slot: null };
    expect(nagiosText([statusFixture({ ...unknown, errors: [] })], {})).toBe("SEAWALL OK: orders: streaming");
  });

  test("says the same as status", () => {
    const status = judged(statusFixture(stalled), { maxBackupAgeMs: HOUR });
    for (const { what } of status.health.findings) {
      expect(nagiosText([status], {})).toContain(what);
      expect(renderStatus(status, { colours: false })).toContain(what);
    }
  });
});
