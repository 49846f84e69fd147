/**
 * A fresh Debian as a folder, for what is installed there: made once by debootstrap into the cache of the harness, and copied for
 * each test. Programs run within it have its files and its /proc, and share the network of the machine. Needs root.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { installPackages } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { run, type RunOptions, type RunResult } from "./run.ts";
import { makeTempDir, removeTree } from "./temp.ts";

const SUITE = "bookworm";
const MIRROR = "http://deb.debian.org/debian";
const DEBOOTSTRAP = "/usr/sbin/debootstrap";
/** Folder of the files within the cached one. */
const TREE = "tree";

export interface DebianRoot extends AsyncDisposable {
  readonly folder: string;
  /** Runs a program in the root; each call has a namespace of its own for its mounts. */
  run(
    command: readonly string[],
    options?: Pick<RunOptions, "accept" | "timeoutMs" | "env" | "input">,
  ): Promise<RunResult>;
}

/** `packages` are installed beside the smallest Debian; the same list finds the same root. */
export async function debianRoot(packages: readonly string[]): Promise<DebianRoot> {
  const cached = await cachedInstall(`debian-${SUITE}-${packages.join("-")}`, "tests of the Debian package", (folder) =>
    bootstrap(folder, packages),
  );
  const folder = makeTempDir("debian-root");
  await run("cp", ["--archive", "--reflink=auto", `${join(cached, TREE)}/.`, folder], { timeoutMs: 300_000 });
  return {
    folder,
    run: (command, options = {}) => {
      const enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"';
      const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND: "noninteractive", ...options.env };
      return run("/usr/bin/unshare", ["--mount", "sh", "-c", enter, folder, ...command], { ...options, env });
    },
    async [Symbol.asyncDispose]() {
      removeTree(folder);
    },
  };
}

async function bootstrap(folder: string, packages: readonly string[]): Promise<void> {
  if (!existsSync(DEBOOTSTRAP)) await installPackages(["debootstrap"], "tests of the Debian package", "debootstrap");
  const root = join(folder, TREE);
  const args = ["--variant=minbase", `--include=${packages.join(",")}`, SUITE, root, MIRROR];
  await run(DEBOOTSTRAP, args, { timeoutMs: 900_000 });
  for (const name of ["var/cache/apt", "var/lib/apt/lists"]) rmSync(join(root, name), { recursive: true });
}
