/**
 * Finds the quick tests: those whose imports lead to nothing that starts a server or a process. No list is kept by hand, so a
 * new test is quick as soon as it is written that way.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "..");

/** Files that start servers, processes or the compiler, or wait for real time to pass. */
const SLOW_HELPERS = ["build.ts", "postgres.ts", "process.ts", "run.ts", "s3.ts", "server-cli.ts", "calendar.ts"];
const SLOW_MODULES = /from "node:child_process"/;
/** Random or large on purpose: a minute or more by themselves. */
const LONG = ["expire-chaos", "expire-large", "retention-random", "flips", "received-files"];

/** Paths below the repository's root. */
export function quickTests(): string[] {
  const seen = new Map<string, boolean>();
  return readdirSync(join(ROOT, "test"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts"))
    .map((path) => join("test", path))
    .filter((path) => !LONG.some((name) => path.endsWith(`/${name}.test.ts`)))
    .filter((path) => !isSlow(join(ROOT, path), seen))
    .sort();
}

function isSlow(file: string, seen: Map<string, boolean>): boolean {
  const known = seen.get(file);
  if (known !== undefined) return known;
  seen.set(file, false); // a circle decides nothing
  const inHarness = relative(join(ROOT, "test", "harness"), file);
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  const slow =
    SLOW_HELPERS.includes(inHarness) ||
    (file.includes("/test/") && SLOW_MODULES.test(text)) ||
    importsOf(text)
      .map((specifier) => resolve(dirname(file), specifier))
      .filter((target) => target.startsWith(join(ROOT, "test")))
      .some((target) => isSlow(target, seen));
  seen.set(file, slow);
  return slow;
}

/** Relative specifiers that a file imports or exports from. */
export function importsOf(text: string): string[] {
  return [...text.matchAll(/^(?:import|export)\b[^"]*"(\.{1,2}\/[^"]+)"|\bfrom "(\.{1,2}\/[^"]+)"/gm)].map(
    ([, plain, from]) => plain ?? from ?? "",
  );
}
