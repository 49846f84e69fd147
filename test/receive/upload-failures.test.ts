/** Which errors of an upload only delay it, for each code of the table. */
import { expect, test } from "vitest";
import { ERROR_KINDS, type ErrorCode } from "../../src/error-kinds.ts";
import { SeawallError } from "../../src/errors.ts";
import { delaysUpload, isRefusedUpload } from "../../src/receive/upload-failures.ts";

type Meaning = "passes" | "refused" | "ends";

/** Codes that a store, an archive or the spool can raise, and what each means for the receiver. */
const CODES: Readonly<Partial<Record<ErrorCode, Meaning>>> = {
  "store-unavailable": "passes",
  "store-away": "passes",
  "store-full": "passes",
  "store-checksum": "passes",
  "store-lied": "passes",
  "store-denied": "refused",
  "store-missing": "refused",
  "store-unsupported": "refused",
  "deletion-refused": "refused",
  "foreign-cluster": "ends",
  "segment-conflict": "ends",
  "object-corrupt": "ends",
  "archive-version": "ends",
  "archive-absent": "ends",
  "timeline-history": "ends",
  "timeline-behind": "ends",
  "timeline-unrelated": "ends",
  "wal-corrupt": "ends",
  "wal-diverged": "ends",
  "wal-gap": "ends",
  usage: "ends",
  internal: "ends",
  aborted: "ends",
};

function meaningOf(error: unknown): Meaning {
  if (!delaysUpload(error)) return "ends";
  return isRefusedUpload(error) ? "refused" : "passes";
}

test.each(Object.entries(CODES) as [ErrorCode, Meaning][])("an upload that fails with %s: %s", (code, meaning) => {
  expect(meaningOf(new SeawallError(code, "test"))).toBe(meaning);
});

test("every code of a store has a row", () => {
  const codes = Object.keys(ERROR_KINDS).filter((code) => code.startsWith("store-"));
  expect(codes.filter((code) => !(code in CODES))).toEqual([]);
});

test("no damage of an archive is taken for a delay", () => {
  const damages = Object.entries(ERROR_KINDS).filter(([, kind]) => "isDamage" in kind);
  expect(damages.length).toBeGreaterThan(5);
  for (const [code] of damages) expect(meaningOf(new SeawallError(code as ErrorCode, "test"))).toBe("ends");
});

test("an error that is not Seawall's ends the receiver", () => {
  expect(meaningOf(new TypeError("bug"))).toBe("ends");
});
