/** Joining the line after a failover, while the spool of the same receiver still stores the end of the old timeline. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { putClaim, readClaims } from "../../src/archive/line/claims.ts";
import { silentLog } from "../../src/log.ts";
import { joinLine } from "../../src/receive/line/claim.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { type SegmentNumber, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { parseHistory } from "../../src/wal/timeline.ts";
import { emptyArchive, lineClaim, MIB, putSegments } from "../archive/retained.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

let folder = "";
let archive: Archive;
beforeEach(async () => {
  folder = makeTempDir("line-join");
  archive = await emptyArchive(new FileStore(folder));
});
afterEach(async () => {
  await archive.store.close();
  removeTree(folder);
});

/** The server left timeline 1 within segment 5; the store has it up to segment 6, and the spool up to segment 7. */
async function joinWhileStored(last: number): Promise<number> {
  await putClaim(archive, lineClaim(1, 1));
  await putSegments(archive, 1, 3, 6);
  let storing: Promise<void> | undefined;
  const timeline = timelineOf(2);
  const content = Buffer.from("1\t0/500000\tno recovery target specified\n");
  const joining = joinLine(archive, {
    server: {
      history: parseHistory(timeline, content),
      files: new Map([[timeline, content]]),
      address: "db2:5432",
      restoredFrom: undefined,
      inRecovery: false,
    },
    spooled: { timeline: timelineOf(1), lsn: segmentStart(8 as SegmentNumber, MIB) },
    takeOver: undefined,
    claimsFirst: true,
    shipIntervalMs: 0,
    nowMs: () => 0,
    // The line is being watched from here on.
    log: { ...silentLog, info: () => void (storing ??= putSegments(archive, 1, 7, last)) },
    signal: new AbortController().signal,
  });
  try {
    return await joining;
  } finally {
    await storing;
  }
}

test("WAL that the receiver's own spool stores meanwhile is no sign of another server", async () => {
  expect(await joinWhileStored(7)).toBe(2);
  expect((await readClaims(archive)).at(-1)).toMatchObject({ timeline: 2, over: { timeline: 1, lsn: 0x800000n } });
}, 30_000);

test("WAL past the spool's end is another server's: the line is not claimed", async () => {
  await expect(joinWhileStored(8)).rejects.toMatchObject({ code: "line-contested" });
  expect(await readClaims(archive)).toHaveLength(1);
}, 30_000);
