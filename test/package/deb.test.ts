/**
 * The Debian package, installed in a fresh Debian 12: what it puts where, and with which rights; its program against a real server;
 * what an upgrade, a removal and a purge do to the service, to the options and to WAL that waits in a spool.
 */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { manPages } from "../../tools/man.ts";
import { makeDeb } from "../../tools/deb.ts";
import { ROOT } from "../harness/build.ts";
import { debianRoot, type DebianRoot } from "../harness/debian-root.ts";
import { newestUnderTest, startPostgres } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "../deploy/page-blocks.ts";
import { packCheckout } from "./packed.ts";

/** What the package depends on; systemd checks the unit. */
const PACKAGES = ["adduser", "init-system-helpers", "libatomic1", "libstdc++6", "procps", "systemd"];
const CONFIG = "/etc/seawall.yaml";
const PATH = "/stubs:/usr/sbin:/usr/bin:/sbin:/bin";
const INSTALL = pageBlock("docs/install.md", "install-deb").trim().split("\n");
const UNIT = "/lib/systemd/system/seawall.service";

const folder = makeTempDir("deb");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
let debian: DebianRoot;
let deb = "";

beforeAll(async () => {
  debian = await debianRoot(PACKAGES);
  const tarball = await packCheckout(folder);
  const arch = process.arch === "arm64" ? "arm64" : "x64";
  deb = makeDeb({ root: ROOT, tarball, arch, out: folder, fast: true });
  // A machine where systemd runs, as far as the package's scripts can tell. These note what they are asked.
  mkdirSync(join(debian.folder, "run/systemd/system"), { recursive: true });
  mkdirSync(join(debian.folder, "stubs"));
  for (const name of ["systemctl", "deb-systemd-invoke"]) {
    const script = `#!/bin/sh\necho "${name} $*" >>/stubs/calls\n`;
    writeFileSync(join(debian.folder, "stubs", name), script, { mode: 0o755 });
  }
  // apt gives dpkg a PATH of its own.
  writeFileSync(inRoot("etc/apt/apt.conf.d/stubs"), `DPkg::Path "${PATH}";\n`);
}, 1_200_000);
afterAll(async () => {
  await debian[Symbol.asyncDispose]();
  removeTree(folder);
});

const inRoot = (path: string): string => join(debian.folder, path);

interface Installed {
  readonly output: string;
  /** What the scripts of the package, or the lines of a page, asked of systemd. */
  readonly calls: readonly string[];
}

/** Runs a program in the root. */
async function installed(command: readonly string[], accept: readonly number[] = [0]): Promise<Installed> {
  const calls = inRoot("stubs/calls");
  writeFileSync(calls, "");
  const { stdout, stderr } = await debian.run(command, { env: { PATH }, timeoutMs: 300_000, accept });
  return { output: stdout + stderr, calls: readFileSync(calls, "utf8").trim().split("\n") };
}

async function dpkg(...args: readonly string[]): Promise<Installed> {
  return installed(["dpkg", ...args]);
}

/** Runs a line of a page in the folder of the root. */
async function line(text: string, accept?: readonly number[]): Promise<Installed> {
  return installed(["bash", "-ec", text], accept);
}

/** Owner, group and mode. */
async function rightsOf(path: string): Promise<string> {
  return (await debian.run(["stat", "-c", "%U:%G %a", path])).stdout.trim();
}

async function asSeawall(script: string): Promise<string> {
  const command = ["runuser", "-u", "seawall", "--", "sh", "-e", "-c", script];
  return (await debian.run(command, { timeoutMs: 240_000 })).stdout;
}

test("it installs, starts nothing yet, and everything has its place", async () => {
  await run("cp", [deb, debian.folder]);
  const [install = ""] = INSTALL;
  const { calls } = await line(install.replace(/\S+\.deb/, `./${basename(deb)}`));
  expect(calls).toEqual(["systemctl --system daemon-reload"]);
  expect((await debian.run(["seawall", "--version"])).stdout).toBe(`seawall ${version}\n`);
  expect((await debian.run(["getent", "passwd", "seawall"])).stdout).toMatch(
    /:\/var\/lib\/seawall:\/usr\/sbin\/nologin$/m,
  );
  expect(await rightsOf(CONFIG)).toBe("root:seawall 640");
  expect(await rightsOf("/var/lib/seawall")).toBe("seawall:seawall 700");
  for (const name of manPages("0").keys()) {
    expect(existsSync(inRoot(`usr/share/man/man${name.at(-1)}/${name}.gz`)), name).toBe(true);
  }
  for (const path of [
    ...["bash-completion/completions/seawall", "zsh/vendor-completions/_seawall"],
    ...["fish/vendor_completions.d/seawall.fish", "doc/seawall/copyright", "doc/seawall/changelog.Debian.gz"],
    ...["doc/seawall/docs/README.md", "doc/seawall/seawall.cdx.json"],
  ]) {
    // dpkg of a minimal root may leave documents out, but not this one.
    expect(existsSync(inRoot(`usr/share/${path}`)), path).toBe(true);
  }
});

test("systemd finds nothing wrong with the unit, which is the one of deploy/", async () => {
  const { stdout, stderr } = await debian.run(["systemd-analyze", "verify", UNIT]);
  expect(stdout + stderr).toBe("");
  const unit = readFileSync(inRoot(UNIT), "utf8");
  const source = readFileSync(join(ROOT, "deploy/systemd/seawall.service"), "utf8");
  expect(source.replaceAll("/usr/local/bin/", "/usr/bin/").endsWith(unit)).toBe(true);
  expect(unit).toContain("ExecStart=/usr/bin/seawall receive --config /etc/seawall.yaml\n");
});

test("before the file names server and store, the service ends with a status that systemd does not restart", async () => {
  const { stderr } = await debian.run(["seawall", "receive", "--config", CONFIG], { accept: [2] });
  expect(stderr).toContain("seawall receive needs --");
});

test("as its own account it receives, backs up and restores from a real server", async () => {
  await using server = await startPostgres({ version: newestUnderTest(), freshIdentifier: true });
  await server.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS row");
  // A file that the administrator has edited.
  const options = [`dsn: ${server.dsn}`, "store: file:///var/lib/seawall/archive", 'listen: "off"'];
  const editor = `#!/bin/sh\ncat >>"$1" <<'EOF'\n${options.join("\n")}\nEOF\n`;
  writeFileSync(inRoot("stubs/editor"), editor, { mode: 0o755 });
  await asSeawall("mkdir /var/lib/seawall/archive");
  const [, ...setUp] = INSTALL;
  const { calls, output: checked } = await line(setUp.join("\n"));
  expect(checked).toContain("0 failed");
  expect(calls).toEqual(["systemctl enable --now seawall"]);
  const output = await asSeawall(`
    cd /var/lib/seawall
    export SEAWALL_CONFIG=${CONFIG}
    trap 'kill $receiver; wait' EXIT
    seawall check
    seawall receive & receiver=$!
    seawall backup
    seawall restore --target-dir ./restored
    seawall verify
    cd restored
    segment=$(sed -n 's/^START WAL LOCATION.*(file \\(.*\\))/\\1/p' backup_label)
    seawall-wal-fetch "$segment" pg_wal/fetched
    wc -c <pg_wal/fetched
    grep restore_command postgresql.auto.conf
  `);
  expect(output).toContain("compresses with its own zstd");
  expect(output).toMatch(/^16777216$/m);
  // The server's account needs nothing on its PATH.
  expect(output).toContain("/usr/lib/seawall/bin/seawall-wal-fetch");
  expect(output).toContain("/usr/lib/seawall/node");
});

test("an upgrade keeps the edited file, and restarts a running receiver once, when all is in place", async () => {
  const edited = readFileSync(inRoot(CONFIG), "utf8");
  const tree = join(folder, "newer");
  await run("dpkg-deb", ["--raw-extract", deb, tree]);
  await run("sed", ["-i", "s/^Version: .*/&+newer/", join(tree, "DEBIAN/control")]);
  const newer = join(folder, "newer.deb");
  await run("dpkg-deb", ["--root-owner-group", "-Znone", "--build", tree, newer]);
  const [ask = "", install = "", look = ""] = pageBlock("docs/upgrade-seawall.md", "upgrade").split("\n");
  expect((await line(ask)).output).toBe(`seawall ${version}\n`);
  await run("cp", [newer, inRoot(/\S+\.deb/.exec(install)?.[0] ?? "")]);
  const { calls, output } = await line(install);
  // No receiver runs in this root.
  expect((await line(look, [3, 4])).output).toContain("no receiver");
  expect(calls).toEqual([
    "systemctl --system daemon-reload",
    "systemctl --system daemon-reload",
    "deb-systemd-invoke try-restart seawall.service",
  ]);
  expect(output).not.toContain("conffile");
  expect(readFileSync(inRoot(CONFIG), "utf8")).toBe(edited);
  expect(await rightsOf(CONFIG)).toBe("root:seawall 640");
}, 240_000);

test("removed, it stops the receiver first, and leaves options, spool and archive", async () => {
  mkdirSync(inRoot("var/lib/seawall/spool"));
  const { calls } = await dpkg("--remove", "seawall");
  expect(calls[0]).toBe("deb-systemd-invoke stop seawall.service");
  expect(existsSync(inRoot("usr/lib/seawall"))).toBe(false);
  for (const path of [CONFIG, "var/lib/seawall/spool", "var/lib/seawall/archive"]) {
    expect(existsSync(inRoot(path)), path).toBe(true);
  }
});

test("purged, its options go, and neither WAL nor the account that owns it", async () => {
  const { output } = await dpkg("--purge", "seawall");
  expect(existsSync(inRoot(CONFIG))).toBe(false);
  expect(output).toContain("/var/lib/seawall is not empty and stays");
  expect(statSync(inRoot("var/lib/seawall/archive")).isDirectory()).toBe(true);
  expect((await debian.run(["getent", "passwd", "seawall"])).stdout).toContain("seawall");
});
