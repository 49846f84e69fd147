/**
 * Finds the tests that `npm run test:encrypted` runs over encrypted archives: those of these rooms whose imports lead to the keys
 * of the run, by which commands and archives are encrypted (harness/encryption.ts).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { importsOf } from "./quick-tests.ts";

const ROOT = resolve(import.meta.dirname, "..");
const KEYS = join(ROOT, "test", "harness", "encryption.ts");

/** Rooms that take, keep and restore WAL and backups. */
export const ENCRYPTED_ROOMS = ["archive", "backup", "campaigns", "daemon", "receive", "restore"];

/** Tests that make keys of their own: they are the same in both forms. */
const OWN_KEYS = /\bmakeKeys\(|\bgenerateX25519Identity\(/;

/** Paths below the repository's root. */
export function encryptedTests(): string[] {
  const seen = new Map<string, boolean>();
  return ENCRYPTED_ROOMS.flatMap((room) =>
    readdirSync(join(ROOT, "test", room))
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => join(ROOT, "test", room, name)),
  )
    .filter((file) => !OWN_KEYS.test(readFileSync(file, "utf8")))
    .filter((file) => usesKeys(file, seen))
    .map((file) => relative(ROOT, file))
    .sort();
}

function usesKeys(file: string, seen: Map<string, boolean>): boolean {
  if (file === KEYS) return true;
  const known = seen.get(file);
  if (known !== undefined) return known;
  seen.set(file, false); // a circle decides nothing
  const uses = existsSync(file) && testsImportedBy(file).some((target) => usesKeys(target, seen));
  seen.set(file, uses);
  return uses;
}

function testsImportedBy(file: string): string[] {
  return importsOf(readFileSync(file, "utf8"))
    .map((specifier) => resolve(dirname(file), specifier))
    .filter((target) => target.startsWith(join(ROOT, "test")));
}
