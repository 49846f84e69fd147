/** The version from package.json, read once. */
import { readFileSync } from "node:fs";
import { packageFile } from "../../program-files.ts";

let version: string | undefined;

export function seawallVersion(): string {
  if (version === undefined) {
    const text = readFileSync(packageFile("package.json"), "utf8");
    // Our own file: its shape is known.
    version = (JSON.parse(text) as { readonly version: string }).version;
  }
  return version;
}
