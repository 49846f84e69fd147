/**
 * Makes the Debian package: `npm run package:deb [-- --arch arm64] [--out DIR] [--tarball FILE] [--fast]`. It holds the npm package,
 * the packages that it needs at run time, and a Node.js of its own, because Debian 12 has only Node.js 18. Files that are
 * no program come from deploy/. DEBFULLNAME and DEBEMAIL name the maintainer. Needs `dpkg-deb`, `tar` and npm's registry.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";

/** The major version of Node.js that the image has too. */
const NODE_MAJOR = 26;
const DEBIAN_ARCH = { x64: "amd64", arm64: "arm64" } as const;
export type DebArch = keyof typeof DEBIAN_ARCH;

export interface DebOptions {
  /** The checkout. */
  readonly root: string;
  /** The tarball that `npm pack` made of it. */
  readonly tarball: string;
  readonly arch: DebArch;
  /** Folder of the result. */
  readonly out: string;
  /** Without compression: for a test. */
  readonly fast?: boolean;
  /** Debian's revision; 1 by default. */
  readonly revision?: number;
}

interface Manifest {
  readonly version: string;
  readonly description: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Makes the package and gives its path. */
export function makeDeb({ root, tarball, arch, out, fast = false, revision = 1 }: DebOptions): string {
  const work = mkdtempSync(join(tmpdir(), "seawall-deb-"));
  try {
    const tree = join(work, "tree");
    const app = join(tree, "usr/lib/seawall");
    const packed = unpack(tarball, join(work, "packed"));
    const manifest = JSON.parse(readFileSync(join(packed, "package.json"), "utf8")) as Manifest;
    const version = `${manifest.version}-${revision}`;
    for (const name of ["bin", "dist", "LICENSE"]) put(join(packed, name), join(app, name));
    for (const name of ["man", "completions"]) rmSync(join(app, "dist", name), { recursive: true });
    installPackages(root, app, { manifest, arch });
    takeNode(app, { arch, work });
    putPrograms(tree);
    putService(root, tree);
    putDocuments({ root, tree, packed, version });
    putControl({ root, tree, arch, version, description: manifest.description });
    const file = resolve(out, `seawall_${version}_${DEBIAN_ARCH[arch]}.deb`);
    mkdirSync(out, { recursive: true });
    execFileSync("chmod", ["-R", "u+rwX,go+rX,go-w", tree]);
    chmodSync(join(tree, "etc/seawall.yaml"), 0o640);
    execFileSync("dpkg-deb", ["--root-owner-group", fast ? "-Znone" : "-Zxz", "--build", tree, file], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    return file;
  } finally {
    rmSync(work, { recursive: true });
  }
}

function put(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true });
}

function write(path: string, content: string | Uint8Array, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content, { mode });
}

/** Gives the folder of a tarball of npm. */
function unpack(tarball: string, folder: string): string {
  mkdirSync(folder);
  execFileSync("tar", ["xzf", resolve(tarball), "-C", folder]);
  return join(folder, "package");
}

/**
 * The packages that run, at the versions of the lock file. Without scripts, and without zstd-napi, whose binary is not in the
 * registry: this Node.js has a zstd of its own.
 */
function installPackages(root: string, app: string, { manifest, arch }: { manifest: Manifest; arch: DebArch }): void {
  const { version, dependencies } = manifest;
  write(
    join(app, "package.json"),
    `${JSON.stringify({ name: "seawall", version, type: "module", license: "Apache-2.0", dependencies }, undefined, 2)}\n`,
  );
  cpSync(join(root, "package-lock.json"), join(app, "package-lock.json"));
  const system = ["--os=linux", `--cpu=${arch}`, "--libc=glibc"];
  const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent"];
  execFileSync("npm", ["install", "--omit=dev", ...system, ...quiet], {
    cwd: app,
    stdio: ["ignore", "inherit", "inherit"],
  });
  rmSync(join(app, "package-lock.json"));
  rmSync(join(app, "node_modules/.package-lock.json"));
  rmSync(join(app, "node_modules/.bin"), { recursive: true, force: true });
  pruneModules(join(app, "node_modules"));
  // Only the two programs of /usr/bin are started.
  for (const path of filesIn(app).filter((name) => /^(node_modules|dist)\//.test(name))) {
    if (lstatSync(join(app, path)).isFile()) chmodSync(join(app, path), 0o644);
  }
}

/** Files of packages that nothing loads: types, source maps, pages, and the settings of their developers. */
const UNUSED =
  /\/\.[^/]+$|\.(map|[cm]?ts|md|markdown|html|css|ya?ml|svg|png)$|^(@[^/]+\/)?[^/]+\/(tests?|benchmarks?|docs|examples?)\//;

function pruneModules(folder: string): void {
  for (const path of filesIn(folder)) {
    if (UNUSED.test(path) && !/licen[cs]e|notice|copying/i.test(path) && lstatSync(join(folder, path)).isFile()) {
      rmSync(join(folder, path));
    }
  }
}

/** The binary that Node.js releases, as npm carries it. */
function takeNode(app: string, { arch, work }: { arch: DebArch; work: string }): void {
  const pack = ["pack", `node-linux-${arch}@${NODE_MAJOR}`, "--silent", "--prefer-offline"];
  const name = execFileSync("npm", [...pack, "--pack-destination", work], { cwd: work, encoding: "utf8" }).trim();
  const node = unpack(join(work, name), join(work, "node"));
  renameSync(join(node, "bin/node"), join(app, "node"));
  renameSync(join(node, "LICENSE"), join(app, "LICENSE.node"));
}

/** The programs on the PATH run the package's own Node.js. */
function putPrograms(tree: string): void {
  const lib = "/usr/lib/seawall";
  write(join(tree, "usr/bin/seawall"), `#!/bin/sh\nexec ${lib}/node ${lib}/dist/cli/main.js "$@"\n`, 0o755);
  const fetch = `#!/bin/sh\nexec ${lib}/bin/seawall-wal-fetch --node ${lib}/node "$@"\n`;
  write(join(tree, "usr/bin/seawall-wal-fetch"), fetch, 0o755);
}

/** The unit of deploy/ with the package's paths, and its file of options. */
function putService(root: string, tree: string): void {
  const unit = readFileSync(join(root, "deploy/systemd/seawall.service"), "utf8");
  // The opening comment tells how to install the unit by hand.
  const body = unit.slice(unit.indexOf("[Unit]")).replaceAll("/usr/local/bin/", "/usr/bin/");
  write(join(tree, "lib/systemd/system/seawall.service"), body);
  put(join(root, "deploy/debian/seawall.yaml"), join(tree, "etc/seawall.yaml"));
}

interface DocumentOptions {
  readonly root: string;
  readonly tree: string;
  /** The npm package, unpacked. */
  readonly packed: string;
  readonly version: string;
}

function putDocuments({ root, tree, packed, version }: DocumentOptions): void {
  const doc = join(tree, "usr/share/doc/seawall");
  for (const name of ["docs", "deploy", "README.md"]) put(join(packed, name), join(doc, name));
  rmSync(join(doc, "deploy/debian"), { recursive: true, force: true });
  const zipped = (content: string | Uint8Array): Uint8Array => gzipSync(content, { level: 9 });
  write(join(doc, "changelog.gz"), zipped(readFileSync(join(packed, "CHANGELOG.md"))));
  write(join(doc, "changelog.Debian.gz"), zipped(debianChangelog(version)));
  put(join(root, "deploy/debian/copyright"), join(doc, "copyright"));
  write(join(doc, "seawall.cdx.json"), sbomOf(join(tree, "usr/lib/seawall")));
  put(join(root, "deploy/debian/lintian-overrides"), join(tree, "usr/share/lintian/overrides/seawall"));
  const man = join(packed, "dist/man");
  for (const name of readdirSync(man)) {
    write(join(tree, `usr/share/man/man${name.at(-1)}`, `${name}.gz`), zipped(readFileSync(join(man, name))));
  }
  const completions = join(packed, "dist/completions");
  put(join(completions, "seawall"), join(tree, "usr/share/bash-completion/completions/seawall"));
  put(join(completions, "_seawall"), join(tree, "usr/share/zsh/vendor-completions/_seawall"));
  put(join(completions, "seawall.fish"), join(tree, "usr/share/fish/vendor_completions.d/seawall.fish"));
}

/** Debian's variables name who makes the package. */
function maintainer(): string {
  const { DEBFULLNAME: name = "The Seawall authors", DEBEMAIL: address = "seawall@localhost.localdomain" } =
    process.env;
  return `${name} <${address}>`;
}

function debianChangelog(version: string): string {
  const date = new Date().toUTCString().replace("GMT", "+0000");
  const entry = `  * Release ${version}; changelog.gz says what is new.`;
  return `seawall (${version}) unstable; urgency=medium\n\n${entry}\n\n -- ${maintainer()}  ${date}\n`;
}

/** Lists the installed packages in CycloneDX; npm writes it. */
function sbomOf(app: string): string {
  return execFileSync("npm", ["sbom", "--sbom-format", "cyclonedx", "--omit", "dev"], { cwd: app, encoding: "utf8" });
}

interface ControlOptions {
  readonly root: string;
  readonly tree: string;
  readonly arch: DebArch;
  readonly version: string;
  readonly description: string;
}

function putControl({ root, tree, arch, version, description }: ControlOptions): void {
  const control = join(tree, "DEBIAN");
  const files = filesIn(tree).filter((path) => lstatSync(join(tree, path)).isFile());
  const bytes = files.reduce((sum, path) => sum + lstatSync(join(tree, path)).size, 0);
  const sums = files
    .filter((path) => !path.startsWith("etc/"))
    .map(
      (path) =>
        `${createHash("md5")
          .update(readFileSync(join(tree, path)))
          .digest("hex")}  ${path}\n`,
    );
  write(join(control, "md5sums"), sums.join(""));
  write(join(control, "conffiles"), "/etc/seawall.yaml\n");
  for (const name of ["postinst", "prerm", "postrm"]) {
    put(join(root, "deploy/debian", name), join(control, name));
    chmodSync(join(control, name), 0o755);
  }
  const fields = {
    ...{
      Package: "seawall",
      Version: version,
      Architecture: DEBIAN_ARCH[arch],
      Section: "database",
      Priority: "optional",
    },
    Maintainer: maintainer(),
    "Installed-Size": String(Math.ceil(bytes / 1024)),
    // What the binary of Node.js is linked with, what the scripts call, and `kill`, which the unit reloads with.
    Depends:
      "adduser, init-system-helpers (>= 1.54), libatomic1, libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 8), procps",
    // `seawall import` unpacks WAL of other tools with them.
    Suggests: "bzip2, lz4, xz-utils",
    Description: `WAL receiver, backup and recovery for PostgreSQL\n ${wrapped(description)}\n It brings a Node.js of its own.`,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
  write(join(control, "control"), lines.join(""));
}

/** Lines of a control file end before column 80. */
function wrapped(text: string): string {
  return text.replaceAll(/(.{1,75})(?:\s+|$)/g, "$1\n ").trimEnd();
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  const root = join(import.meta.dirname, "..", "..");
  const { values } = parseArgs({
    options: {
      arch: { type: "string", default: process.arch },
      out: { type: "string", default: join(root, "build", "deb") },
      tarball: { type: "string" },
      fast: { type: "boolean", default: false },
    },
  });
  const { arch, out, fast } = values;
  if (arch !== "x64" && arch !== "arm64") throw new Error(`--arch is "${arch}": use x64 or arm64`);
  mkdirSync(out, { recursive: true });
  const pack = (): string => {
    const name = execFileSync("npm", ["pack", "--silent", "--pack-destination", out], { cwd: root, encoding: "utf8" });
    return join(out, name.trim().split("\n").at(-1) ?? "");
  };
  console.log(makeDeb({ root, tarball: values.tarball ?? pack(), arch, out, fast }));
}
