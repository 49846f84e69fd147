/** What the watchers found, as one view: a gap is covered once the listing that holds the backup is shown, and not before. */
import { expect, test } from "vitest";
import type { GapDocument } from "../../src/daemon/status/document.ts";
import type { MappedGap, RecoveryMap } from "../../src/daemon/status/recovery-map.ts";
import { NOTHING_SEEN, seenWith } from "../../src/daemon/status/seen.ts";

const PLACE = { timeline: 1, fromLsn: "0/3000000", toLsn: "0/5000000", reason: "the slot was lost" };
const OPEN: GapDocument = { ...PLACE, detectedAt: "2026-03-01T10:00:00.000Z", lastCommitAt: null, coveredBy: null };
const COVER = { backup: "20260301T100500Z-00c0ffee", finishedAt: "2026-03-01T10:06:00.000Z" };
const COVERED: GapDocument = { ...OPEN, coveredBy: COVER };

function mapOf(...gaps: Partial<MappedGap>[]): RecoveryMap {
  const open = { ...PLACE, isOnLine: true, fromTime: null, toTime: null, coveredBy: null };
  const at = "2026-03-01T10:00:00.000Z";
  return { readAt: at, windows: [], backups: [], drills: [], gaps: gaps.map((gap) => ({ ...open, ...gap })) };
}

const MAPPED_COVER = { coveredBy: COVER.backup, toTime: COVER.finishedAt };

test.each([
  { name: "covered by a backup that the listing lacks is open", found: COVERED, map: mapOf({}), shown: OPEN },
  { name: "covered by a backup of the listing is covered", found: OPEN, map: mapOf(MAPPED_COVER), shown: COVERED },
  { name: "recorded after the listing is open", found: COVERED, map: mapOf(), shown: OPEN },
  { name: "covered before the first listing is covered", found: COVERED, map: null, shown: COVERED },
  {
    name: "beside another gap that is covered stays open",
    found: OPEN,
    map: mapOf({ ...MAPPED_COVER, fromLsn: "0/1000000" }),
    shown: OPEN,
  },
])("a gap that is $name", ({ found, map, shown }) => {
  expect(seenWith(seenWith(NOTHING_SEEN, { recovery: map }), { foundGaps: [found] }).gaps).toEqual([shown]);
  expect(seenWith(seenWith(NOTHING_SEEN, { foundGaps: [found] }), { recovery: map }).gaps).toEqual([shown]);
});

test("where the archive cannot be listed, the watch over gaps is believed, until it can", () => {
  const before = seenWith(NOTHING_SEEN, { recovery: mapOf({}), foundGaps: [COVERED] });
  const failed = seenWith(before, { isMapStale: true });
  expect(failed.gaps).toEqual([COVERED]);
  expect(seenWith(failed, { recovery: mapOf({}), isMapStale: false }).gaps).toEqual([OPEN]);
});
