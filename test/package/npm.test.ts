/**
 * The npm package: what it holds, and that it installs without a compiler on every Node.js with a zstd of its own, receives,
 * backs up and restores there.
 */
import { chmodSync, existsSync, lstatSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { manPages } from "../../tools/man.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { NODE_VERSIONS, provideNode } from "../harness/node-versions.ts";
import { freePort } from "../harness/postgres-process.ts";
import { newestUnderTest, startPostgres, tool } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "../deploy/page-blocks.ts";
import { packCheckout, pathWithoutCompiler } from "./packed.ts";

interface Manifest {
  readonly private?: boolean;
  readonly bin: Readonly<Record<string, string>>;
  readonly man: readonly string[];
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
const folder = makeTempDir("npm-package");
chmodSync(folder, 0o755);
afterAll(() => removeTree(folder));
let tarball = "";
beforeAll(async () => {
  tarball = await packCheckout(folder);
});

describe("the tarball", () => {
  let files: readonly string[] = [];
  beforeAll(async () => {
    const { stdout } = await run("tar", ["tzf", tarball]);
    files = stdout
      .trim()
      .split("\n")
      .map((path) => path.replace(/^package\//, ""));
  });

  test("holds the programs, the manual pages, the completions and the documents", () => {
    const wanted = [
      ...Object.values(manifest.bin),
      ...[...manPages("0").keys()].map((name) => `dist/man/${name}`),
      ...["seawall", "_seawall", "seawall.fish"].map((name) => `dist/completions/${name}`),
      ...["docs/README.md", "deploy/systemd/seawall.service", "README.md", "LICENSE", "CHANGELOG.md"],
    ];
    expect(files).toEqual(expect.arrayContaining(wanted));
  });

  test("holds no sources, no tests, and no source maps that lead nowhere", () => {
    expect(files.filter((path) => !/^(bin|deploy|dist|docs)\/|^[A-Z]+(\.md)?$|^package\.json$/.test(path))).toEqual([]);
    expect(files.filter((path) => /\.(map|ts|tgz)$|(^|\/)(test|node_modules)\//.test(path))).toEqual([]);
  });

  test("may be published, and its scripts build it first", () => {
    expect(manifest.private).toBeUndefined();
    expect(manifest.scripts["prepack"]).toBe("rm -rf dist && npm run build && npm run extras");
    expect(manifest.scripts["extras"]).toBe("npm run man && npm run completions");
  });
});

test("every package that is needed at run time has its native parts in the registry, or none", () => {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<
      Record<string, { dev?: boolean; optional?: boolean; devOptional?: boolean; hasInstallScript?: boolean }>
    >;
  };
  const needed = Object.entries(lock.packages).filter(
    ([path, { dev, optional, devOptional }]) => path !== "" && !dev && !optional && !devOptional,
  );
  expect(needed.length).toBeGreaterThan(20);
  expect(needed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => path)).toEqual([]);
  const binaries = ["linux-x64-gnu", "linux-x64-musl", "linux-arm64-gnu", "linux-arm64-musl"];
  expect(Object.keys(lock.packages)).toEqual(
    expect.arrayContaining(binaries.map((system) => `node_modules/@node-rs/crc32-${system}`)),
  );
});

const psql = tool("psql");

describe.skipIf(psql === undefined)("installed without a compiler", () => {
  test.each(NODE_VERSIONS)("Node.js %i receives, backs up and restores", { timeout: 600_000 }, async (major) => {
    const node = await provideNode(major);
    const own = join(folder, String(major));
    const path = await pathWithoutCompiler(node, join(own, "bin"));
    const prefix = join(own, "prefix");
    const env = { PATH: path, HOME: process.env["HOME"] };
    // The lines of the page, with the tarball for the name in the registry.
    const [install = "", check = ""] = pageBlock("docs/install.md", "install").split("\n");
    const [again, completion = ""] = pageBlock("docs/install.md", "shell").split("\n");
    expect(again).toBe(install);
    // A registry that is silent is asked again soon: npm by itself waits five minutes.
    const registry = { npm_config_prefer_offline: "true", npm_config_fetch_timeout: "30000" };
    await run("bash", ["-c", install.replace(/seawall$/, tarball)], {
      ...{ env: { ...env, ...registry, npm_config_prefix: prefix }, timeoutMs: 300_000 },
    });
    const seawall = join(prefix, "bin", "seawall");
    const completions = join(own, "completion");
    const shell = { ...env, PATH: [dirname(seawall), path].join(delimiter) };
    await run("bash", ["-c", completion.replace("/etc/bash_completion.d/seawall", completions)], { env: shell });
    expect(readFileSync(completions, "utf8")).toContain("complete ");
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
    expect((await run(seawall, ["--version"], { env })).stdout).toBe(`seawall ${version}\n`);
    for (const page of manifest.man) {
      const name = page.slice("dist/man/".length);
      const place = join(prefix, "share", "man", `man${name.at(-1)}`, name);
      expect(lstatSync(place).isSymbolicLink() && existsSync(place), place).toBe(true);
    }

    await using server = await startPostgres({ version: newestUnderTest(), freshIdentifier: true });
    await server.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS row");
    const work = join(own, "work");
    await run("mkdir", ["-p", join(work, "store")]);
    await run("chmod", ["-R", "a+rX", own]);
    giveToServer(work, 0o700);
    giveToServer(join(work, "store"), 0o700);
    const port = await freePort();
    const script = [
      "set -e",
      "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT",
      check,
      "seawall receive &",
      "seawall backup",
      "seawall restore --target-dir ./restored",
      `pg_ctl start -D ./restored -o "-p ${port}" -l restored.log >/dev/null`,
      "until seawall restore --check ./restored; do sleep 1; done",
      `'${psql}' -h 127.0.0.1 -p ${port} -U postgres -Atc 'SELECT count(*), sum(row) FROM kept'`,
      "pg_ctl stop -D ./restored -m fast >/dev/null",
    ].join("\n");
    const { stdout } = await run("bash", ["-c", script], {
      account: serverAccount(),
      cwd: work,
      timeoutMs: 240_000,
      env: {
        PATH: [dirname(seawall), path, server.binDir].join(delimiter),
        HOME: work,
        SEAWALL_DSN: server.dsn,
        SEAWALL_STORE: `file://${work}/store`,
        SEAWALL_LISTEN: "off",
      },
    });
    expect(stdout).toContain(`Node.js ${node.version} compresses with its own zstd; zstd-napi is not in use: `);
    expect(stdout.trim().split("\n").at(-1)).toBe("100|5050");
    removeTree(own);
  });
});
