/** The magics of the versions that Seawall knows. */
import { expect, test } from "vitest";
import { majorVersionOfMagic, PAGE_MAGIC } from "../../src/wal/format.ts";

// PostgreSQL: xlog_internal.h, XLOG_PAGE_MAGIC of each release.
test.each([
  [14, 0xd10d],
  [15, 0xd110],
  [16, 0xd113],
  [17, 0xd116],
  [18, 0xd118],
])("PostgreSQL %i writes pages with the magic %i", (major, magic) => {
  expect(majorVersionOfMagic(magic)).toBe(major);
  expect(PAGE_MAGIC[major]).toBe(magic);
});

test.each([0, 0xd10c, 0xd10e, 0xd119, 0xffff])("no version writes the magic %i", (magic) => {
  expect(majorVersionOfMagic(magic)).toBeUndefined();
});
