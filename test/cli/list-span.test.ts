/** The generations in `seawall list`: a span over several windows says that it is broken. */
import { expect, test } from "vitest";
import { spanText } from "../../src/cli/commands/list.ts";
import { recoverable } from "../../src/cli/views/catalog.ts";
import { timelineOf } from "../../src/wal/lsn.ts";

const window = (fromTime: string, toTime: string | null) => ({
  ...{ timeline: timelineOf(1), fromLsn: 1n, toLsn: 2n, fromTime, toTime, backup: "b" },
});
const first = window("2026-11-30T05:55:30.000Z", "2026-11-30T05:58:00.000Z");
const last = window("2026-11-30T06:04:00.000Z", "2026-11-30T06:08:06.000Z");
type Catalog = Parameters<typeof recoverable>[0];
/** Only their number counts here. */
const gaps = [{}, {}] as unknown as Catalog["gaps"];
const catalogOf = (windows: readonly object[], found: Catalog["gaps"]): Catalog => ({
  windows: windows as Catalog["windows"],
  gaps: found,
});

test.each([
  {
    title: "one window",
    catalog: catalogOf([first], []),
    says: "2026-11-30 05:55:30Z to 2026-11-30 05:58:00Z",
    windows: 1,
  },
  {
    ...{ title: "two windows with gaps between them", catalog: catalogOf([first, last], gaps), windows: 2 },
    says: "2026-11-30 05:55:30Z to 2026-11-30 06:08:06Z in 2 windows, with 2 gaps",
  },
  {
    ...{ title: "two windows of two timelines", catalog: catalogOf([first, last], []), windows: 2 },
    says: "2026-11-30 05:55:30Z to 2026-11-30 06:08:06Z in 2 windows",
  },
])("$title", ({ catalog, says, windows }) => {
  const span = recoverable(catalog);
  expect(span).toMatchObject({ windows, gaps: catalog.gaps.length });
  expect(span === null ? "nothing" : spanText(span)).toBe(says);
});

test("without a window there is no span", () => {
  expect(recoverable(catalogOf([], gaps))).toBeNull();
});
