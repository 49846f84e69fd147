/**
 * A run with SEAWALL_TEST_ENCRYPTED=1 is one: what receivers and commands store in it are age files. And the tests of its rooms
 * open archives by the run's keys.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { ENCRYPTED_ROOMS, encryptedTests } from "../encrypted-tests.ts";
import { provideRunKeys } from "../harness/encryption.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const TESTS = join(import.meta.dirname, "..");

afterEach(() => vi.unstubAllEnvs());

/** The first words of every age file. */
const AGE = "age-encryption.org/v1";
/** Documents without data of the database: docs/encryption.md, "What is encrypted". */
const IN_THE_CLEAR = /\.json$/;

test("a receiver and a command of an encrypted run store age files, and the run's own codec reads them", async () => {
  const folder = makeTempDir("run-keys");
  try {
    for (const name of ["SEAWALL_TEST_RECIPIENT", "SEAWALL_TEST_IDENTITY"]) vi.stubEnv(name, "");
    vi.stubEnv("SEAWALL_TEST_ENCRYPTED", "1");
    await provideRunKeys(folder);
    // The keys are read when the harness is loaded.
    vi.resetModules();
    const { Archived } = await import("../restore/restored.ts");
    await using archived = await Archived.start();
    await archived.insert(1);
    const { id } = await archived.backup();
    await archived.server.sql("SELECT pg_switch_wal()");
    await archived.insert(2);
    await archived.stored();
    const stored = filesBelow(join(archived.folder, "s", "main"));
    const beginning = (path: string): string => readFileSync(path).subarray(0, AGE.length).toString("latin1");
    expect(stored.filter((path) => !IN_THE_CLEAR.test(path) && beginning(path) !== AGE)).toEqual([]);
    for (const part of ["/wal/", "/tail/", `/${id}/parts/`, "/backup_manifest"]) {
      expect(
        stored.some((path) => path.includes(part) && beginning(path) === AGE),
        part,
      ).toBe(true);
    }
    const { expectEqualsServer } = await import("../receive/receiving.ts");
    expect(await expectEqualsServer(archived.server, archived.store)).toBeGreaterThan(0);
  } finally {
    removeTree(folder);
  }
});

test("an encrypted run has the tests of every room that stores and restores", () => {
  const files = encryptedTests();
  for (const room of ENCRYPTED_ROOMS) {
    expect(files.filter((path) => path.startsWith(`test/${room}/`)).length, room).toBeGreaterThan(3);
  }
  for (const name of ["receive/receive", "backup/backup", "restore/restore", "campaigns/kill", "campaigns/disaster"]) {
    expect(files).toContain(`test/${name}.test.ts`);
  }
});

/** Files whose archives are not the run's, and why. */
const NOT_OF_THE_RUN: Readonly<Record<string, string>> = {
  "archive/archive-absent.test.ts": "opens archives that are not there",
  "archive/archive-start.test.ts": "looks at cluster.json alone, which is never encrypted",
  "archive/drills.test.ts": "has keys of its own",
  "archive/encrypted-backup.test.ts": "has keys of its own",
  "archive/encrypted.test.ts": "has keys of its own, and plain archives beside them",
  "archive/object-lock.test.ts": "rekeys from keys of its own to others",
  "archive/put-once.test.ts": "compares plain bytes that two levels of zstd store",
  "archive/received-files.test.ts": "measures memory, and stores nothing",
  "archive/rekey.test.ts": "has keys of its own",
  "archive/parts.test.ts": "compresses in threads of its own, for the run's recipients",
  "backup/taking.ts": "reads without keys what the age library has opened",
  "daemon/gap-look.test.ts": "encrypts a partial to others",
  "receive/large-chunk.test.ts": "the shipper alone, with a store in memory",
  "receive/leftover.test.ts": "tries plain and encrypted archives",
  "restore/stretches.test.ts": "has keys of its own beside those of the run",
};

test("a test of these rooms opens archives by the run's keys, or says here why not", () => {
  const own = ENCRYPTED_ROOMS.flatMap((room) =>
    readdirSync(join(TESTS, room))
      .map((name) => `${room}/${name}`)
      .filter((path) => /\bopenArchive\(|\bnew Codec\(/.test(readFileSync(join(TESTS, path), "utf8"))),
  );
  expect(own.sort()).toEqual(Object.keys(NOT_OF_THE_RUN).sort());
});

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  );
}
