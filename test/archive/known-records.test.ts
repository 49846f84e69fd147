/** Which archives' records may be read, and the refusal of the others. */
import { expect, test } from "vitest";
import { hasKnownRecords, requireKnownRecords } from "../../src/archive/wal/known-records.ts";
import { MAJOR_MAX, MAJOR_MIN } from "../../src/wal/format.ts";

test.each([
  [MAJOR_MIN, true],
  [MAJOR_MAX, true],
  [MAJOR_MAX + 1, false],
])("the records of PostgreSQL %i: %j", (pgMajor, isKnown) => {
  expect(hasKnownRecords({ pgMajor })).toBe(isKnown);
});

test("a refusal says what could not be done, and for which version", () => {
  expect(() => requireKnownRecords({ pgMajor: MAJOR_MAX }, "plan a restore")).not.toThrow();
  expect(() => requireKnownRecords({ pgMajor: MAJOR_MAX + 1 }, "plan a restore")).toThrow(
    expect.objectContaining({
      code: "wal-version",
      message: `cannot plan a restore: the archive is of PostgreSQL ${MAJOR_MAX + 1}, and this Seawall knows versions up to ${MAJOR_MAX}`,
    }),
  );
});
