/** `--all`: one result for every cluster of a file or a store, whatever fails in one of them, and the highest exit status. */
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Outcome, onEach } from "../../src/cli/all-clusters.ts";
import type { CommandContext } from "../../src/cli/context.ts";
import { ROOT } from "../harness/build.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

interface All {
  readonly clusters: readonly {
    readonly cluster: string;
    readonly exit: number;
    readonly ok?: boolean;
    readonly error?: { readonly code: string; readonly hint: string };
    readonly [more: string]: unknown;
  }[];
}

let dir: string;
beforeAll(() => {
  dir = makeTempDir("all-clusters");
});
afterAll(() => removeTree(dir));

const KEPT = join(ROOT, "test/fixtures/archive");

/** A store with the kept archive under each of these names. */
function storeOf(name: string, ...clusters: readonly string[]): string {
  const path = join(dir, name);
  mkdirSync(path);
  for (const cluster of clusters) cpSync(join(KEPT, "main"), join(path, cluster), { recursive: true });
  return path;
}

function file(name: string, lines: readonly string[]): string {
  const path = join(dir, name);
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

/** Which cluster ended how, in the order of the document. */
const ends = (stdout: string): unknown[] =>
  (JSON.parse(stdout) as All).clusters.map(({ cluster, exit, error }) => [cluster, exit, error?.code]);

describe("the clusters of a store", () => {
  test("are listed in one document, and one that cannot be read does not hide the others", async () => {
    const store = storeOf("three", "a", "b", "c");
    writeFileSync(join(store, "b/cluster.json"), "{");
    mkdirSync(join(store, "no-archive/some-folder"), { recursive: true });
    writeFileSync(join(store, "no-archive/some-folder/file"), "");

    const ran = await inProcess(["list", "--store", `file://${store}`, "--all", "--json"]);
    expect(ends(ran.stdout)).toEqual([
      ["a", 0, undefined],
      ["b", 6, "object-corrupt"],
      ["c", 0, undefined],
    ]);
    expect(ran).toMatchObject({ code: 6, stderr: "" });
    const alone = await inProcess(["list", "--store", `file://${store}`, "--cluster", "c", "--json"]);
    expect((JSON.parse(ran.stdout) as All).clusters[2]).toEqual({ exit: 0, ...(JSON.parse(alone.stdout) as object) });

    const shown = await inProcess(["list", "--store", `file://${store}`, "--all"]);
    expect(shown.code).toBe(6);
    expect(shown.stdout.split("\n").filter((line) => /^\S/.test(line))).toEqual([
      "b: failed",
      "a: ok",
      "c: ok",
      "3 clusters: 1 failed, 2 ok",
    ]);
    expect(shown.stdout).toMatch(/^b: failed\n {2}error: .*\[object-corrupt\]$/m);
    expect(shown.stdout).toMatch(/^a: ok\n {2}cluster +a, system identifier \d+$/m);
  });

  test("are verified, and the worst answer is the exit status", async () => {
    const store = storeOf("verified", "a", "b");
    const segments = join(store, "b/wal/00000001/00000000");
    const newest = readdirSync(segments).sort().at(-1) ?? "";
    writeFileSync(join(segments, newest), "not a segment");
    const ran = await inProcess(["verify", "--store", `file://${store}`, "--all", "--json"]);
    const { clusters } = JSON.parse(ran.stdout) as All;
    expect(clusters.map(({ cluster, exit, ok }) => [cluster, exit, ok])).toEqual([
      ["a", 0, true],
      ["b", 1, false],
    ]);
    expect(ran.code).toBe(1);
    const shown = await inProcess(["verify", "--store", `file://${store}`, "--all"]);
    expect(shown.stdout).toMatch(/^b: not ok\n(.|\n)*^a: ok\n(.|\n)*^2 clusters: 1 not ok, 1 ok\n$/m);
  });

  test("a store without a cluster is no success", async () => {
    const store = `file://${storeOf("empty")}`;
    for (const command of ["list", "verify"]) {
      const ran = await inProcess([command, "--store", store, "--all"]);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(ran.stderr).toMatch(/^error: there is no cluster in .*empty.* \[archive-absent\]$/m);
    }
  });
});

describe("the clusters of a file", () => {
  test("are listed each from its own store, and those that only the store has are not", async () => {
    const [one, two] = [storeOf("one", "orders", "other"), storeOf("two", "billing")];
    const config = file("stores.yaml", [
      `store: file://${one}`,
      "clusters:",
      "  orders:",
      "  billing:",
      `    store: file://${two}`,
      "  absent:",
    ]);
    const ran = await inProcess(["list", "--config", config, "--all", "--json"]);
    expect(ends(ran.stdout)).toEqual([
      ["orders", 0, undefined],
      ["billing", 0, undefined],
      ["absent", 1, "archive-absent"],
    ]);
    expect(ran.code).toBe(1);
    const words = await inProcess(["list", "--config", config, "--all"]);
    expect(words.stdout).toMatch(
      /^absent: failed\n +error: no archive of cluster "absent" in .* \[archive-absent\]\n +hint: seawall receive creates/m,
    );
    expect(words.stdout).not.toContain("--cluster");
  });

  test("--all beside a name is refused before anything is touched", async () => {
    const config = file("refused.yaml", [`store: file://${dir}/nowhere`, "clusters:", "  orders:", "  billing:"]);
    for (const command of ["check", "list", "status", "verify", "notify-test"]) {
      const flag = await inProcess([command, "--config", config, "--all", "--cluster", "orders"]);
      expect(flag).toMatchObject({ code: 2, stdout: "" });
      expect(flag.stderr).toMatch(/^error: --all and --cluster exclude each other\nhint: Leave --all out for/);
    }
    const variable = await inProcess(["list", "--config", config, "--all"], { SEAWALL_CLUSTER: "orders" });
    expect(variable.code).toBe(2);
    expect(variable.stderr).toMatch(/^error: --all and SEAWALL_CLUSTER exclude each other/);
    expect(readdirSync(dir)).not.toContain("nowhere");
    const bare = await inProcess(["list", "--config", config]);
    expect(bare.stderr).toMatch(/hint: Say which: --cluster orders or billing, or --all\./);
    const server = await inProcess(["check", "--config", config, "--all", "--dsn", "host=db"]);
    expect(server.stderr).toMatch(/^error: --dsn would be the same for every cluster/);
  });

  test("one without a channel and one that refuses do not keep the others from their test message", async () => {
    const got: string[] = [];
    await using server = await hooks((cluster) => {
      got.push(cluster);
      return cluster === "refused" ? 403 : 200;
    });
    const config = file("notify.yaml", [
      "clusters:",
      "  silent:",
      ...["fine", "refused", "well"].flatMap((name) => [`  ${name}:`, `    notify-url: ${server.url}`]),
    ]);
    const ran = await inProcess(["notify-test", "--config", config, "--all", "--json"]);
    expect(ends(ran.stdout)).toEqual([
      ["silent", 2, "usage"],
      ["fine", 0, undefined],
      ["refused", 1, undefined],
      ["well", 0, undefined],
    ]);
    expect(ran.code).toBe(2);
    expect(got.sort()).toEqual(["fine", "refused", "well"]);
  });
});

describe("with a server", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ segmentSizeMiB: 1 });
  });
  afterAll(async () => server[Symbol.asyncDispose]());

  /** One cluster with a server, one whose server and store are both away. */
  const twoServers = (name: string): string =>
    file(`${name}.yaml`, [
      "listen: 127.0.0.1:1",
      "clusters:",
      "  up:",
      `    dsn: ${server.dsn}`,
      `    store: file://${storeOf(name)}`,
      "  down:",
      '    dsn: "host=127.0.0.1 port=1 user=seawall connect_timeout=2"',
      `    store: file://${dir}/not-there`,
    ]);

  test("check: a server that is away is one cluster's answer", async () => {
    const ran = await inProcess(["check", "--config", twoServers("check"), "--all", "--json"]);
    const { clusters } = JSON.parse(ran.stdout) as All;
    expect(clusters.map(({ cluster, exit, ok }) => [cluster, exit, ok])).toEqual([
      ["up", 0, true],
      ["down", 1, false],
    ]);
    expect(ran.code).toBe(1);
  });

  test("status: all are shown, trouble first, and one that is not known is the exit status", async () => {
    const config = twoServers("status");
    const ran = await inProcess(["status", "--config", config, "--all"]);
    expect(ran.code).toBe(5);
    expect(ran.stdout).toMatch(/^CLUSTER .*\n(down|up) .*\n(down|up) .*\n$/m);
    const json = await inProcess(["status", "--config", config, "--all", "--json"]);
    expect((JSON.parse(json.stdout) as All).clusters.map(({ cluster }) => cluster)).toEqual(["up", "down"]);
    expect((await inProcess(["status", "--config", config])).code).toBe(0);

    const check = await inProcess(["status", "--config", config, "--all", "--check", "--nagios"]);
    expect(check.code).toBe(2);
    const [first, ...lines] = check.stdout.trimEnd().split("\n");
    expect(first).toMatch(/^SEAWALL CRITICAL: 2 critical of 2 clusters: /);
    expect(lines).toHaveLength(2);
    expect(lines.map((line) => /^\w+: critical: /.exec(line)?.[0]).sort()).toEqual([
      "down: critical: ",
      "up: critical: ",
    ]);
  });
});

describe("onEach", () => {
  const contexts = (stop: AbortSignal): CommandContext[] =>
    Array.from({ length: 20 }, (_, i) => {
      // A cast: the work under test reads nothing else.
      return { settings: { cluster: `c${i}` }, signals: { stop }, io: {} } as unknown as CommandContext;
    });

  test("works on no more clusters at a time than it may, and on all of them", async () => {
    let [now, most] = [0, 0];
    const outcomes = await onEach(contexts(new AbortController().signal), 3, async ({ settings }) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      if (settings.cluster === "c5") throw new Error("this one");
      return settings.cluster;
    });
    expect(most).toBe(3);
    const shown = (outcome: Outcome<string>): unknown => (outcome.kind === "done" ? outcome.result : outcome.error);
    expect(outcomes.map(shown)).toEqual(
      Array.from({ length: 20 }, (_, i) => (i === 5 ? new Error("this one") : `c${i}`)),
    );
  });

  test("begins with no further cluster when the command is stopped", async () => {
    const stop = new AbortController();
    let begun = 0;
    const work = onEach(contexts(stop.signal), 1, async () => {
      if (++begun === 2) stop.abort();
      return Promise.resolve();
    });
    await expect(work).rejects.toMatchObject({ code: "aborted" });
    expect(begun).toBe(2);
  });
});

/** A webhook; `answer` gives the status for a cluster's message. */
async function hooks(answer: (cluster: string) => number): Promise<{ readonly url: string } & AsyncDisposable> {
  const server: Server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => response.writeHead(answer((JSON.parse(body) as { cluster: string }).cluster)).end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { url, [Symbol.asyncDispose]: async () => new Promise((resolve) => server.close(() => resolve())) };
}
