/**
 * The npm package of this checkout, as `npm pack` makes it: what `prepack` builds is put beside the files without compiling all
 * of it once more.
 */
import { cpSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { manPages } from "../../tools/man.ts";
import { ROOT } from "../harness/build.ts";
import type { NodeInstallation } from "../harness/node-versions.ts";
import { run } from "../harness/run.ts";

const PACKED = ["bin", "deploy", "dist", "docs", "LICENSE", "README.md", "CHANGELOG.md", "package.json"];
const COMPLETIONS = { bash: "seawall", zsh: "_seawall", fish: "seawall.fish" };

/** Packs the checkout within `folder`, and gives the tarball's path. */
export async function packCheckout(folder: string): Promise<string> {
  const stage = join(folder, "stage");
  for (const name of PACKED) cpSync(join(ROOT, name), join(stage, name), { recursive: true });
  const man = join(stage, "dist", "man");
  mkdirSync(man);
  for (const [name, content] of manPages("0.0.0")) writeFileSync(join(man, name), content);
  const completions = join(stage, "dist", "completions");
  mkdirSync(completions);
  for (const [shell, name] of Object.entries(COMPLETIONS)) {
    const main = join(ROOT, "dist", "cli", "main.js");
    writeFileSync(join(completions, name), (await run(process.execPath, [main, "completion", shell])).stdout);
  }
  const args = ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder];
  const { stdout } = await run("npm", args, { cwd: stage });
  return join(folder, stdout.trim());
}

/** The programs that a machine without a compiler has. */
const ORDINARY =
  "sh bash env uname readlink dirname basename sleep rm mv mkdir cat kill ls sed id chmod ln cp test tr head true false";

/** A PATH on which there are this Node.js, npm and ordinary programs, and no compiler, no make and no Python. */
export async function pathWithoutCompiler(node: NodeInstallation, folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  for (const name of ORDINARY.split(" ")) symlinkSync(await programOf(name), join(folder, name));
  const npm = realpathSync(await programOf("npm"));
  writeFileSync(join(folder, "npm"), `#!/bin/sh\nexec '${node.node}' '${npm}' "$@"\n`, { mode: 0o755 });
  return [folder, node.binDir].join(delimiter);
}

async function programOf(name: string): Promise<string> {
  const { stdout } = await run("/bin/sh", ["-c", 'command -v -- "$0"', name]);
  const path = stdout.trim();
  // A builtin is named without a folder.
  return path.startsWith("/") ? path : join("/usr/bin", name);
}
