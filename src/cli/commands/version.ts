/** The version from package.json, read once; it lies two folders up in `src` as in `dist`. */
import { readFileSync } from "node:fs";

let version: string | undefined;

export function seawallVersion(): string {
  if (version === undefined) {
    const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
    // Our own file: its shape is known.
    version = (JSON.parse(text) as { readonly version: string }).version;
  }
  return version;
}
