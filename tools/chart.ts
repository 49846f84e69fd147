/**
 * Checks the Helm chart and writes deploy/kubernetes/receiver.yaml, the manifest that it makes with its own values, for users
 * without Helm: `npm run chart`. Needs `helm`. The manifest's first line has a digest of the chart; a test compares it.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const CHART = "deploy/helm/seawall";
export const RENDERED = "deploy/kubernetes/receiver.yaml";

/** SHA-256 over names and contents of the chart's files. */
export function chartDigest(root: string): string {
  const folder = join(root, CHART);
  const hash = createHash("sha256");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const path of files.map(({ parentPath, name }) => join(parentPath, name)).sort()) {
    hash.update(`${path.slice(folder.length)}\n`).update(readFileSync(path));
  }
  return hash.digest("hex");
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  const root = join(import.meta.dirname, "..", "..");
  const helm = (...args: readonly string[]): string => execFileSync("helm", args, { cwd: root, encoding: "utf8" });
  console.log(helm("lint", "--strict", CHART));
  const manifest = helm("template", "main", CHART).replaceAll(/^# Source: .*\n/gm, "");
  const opening = `# Made by "npm run chart" from ${CHART}, sha256 ${chartDigest(root)}.\n# A receiver in a pod of its own; replace server, store and image.\n`;
  writeFileSync(join(root, RENDERED), opening + manifest);
}
