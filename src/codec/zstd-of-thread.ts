/** Chooses the zstd of a thread: the library that src/zstd-library.ts finds, behind the seam (zstd.ts). */
import { zstdLibrary } from "../zstd-library.ts";
import type { Zstd } from "./zstd.ts";
import { NativeZstd } from "./zstd-native.ts";
import { NodesZstd } from "./zstd-node.ts";

let zstd: Zstd | undefined;

/** The zstd of this thread. Throws `zstd-missing`. */
export function zstdOfThread(): Zstd {
  if (zstd !== undefined) return zstd;
  const library = zstdLibrary();
  zstd = library.name === "node" ? new NodesZstd(library.zlib) : new NativeZstd(library.binding);
  return zstd;
}
