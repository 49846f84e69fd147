/** How much a spool may hold, and what `receive` and `check` say of a disk that is too small. */
import { describe, expect, test } from "vitest";
import { judgeSpool, lackOfRoom, noRoom } from "../../src/receive/spool-room.ts";

const MIB = 1 << 20;

describe("an object of 1 MiB finds room", () => {
  const use = { spoolBytesMax: 100 * MIB, diskBytesMax: 50 * MIB, segmentSize: 16 * MIB };

  test.each([
    ["a chunk on a disk with a segment to spare", { ...use, bytes: 33 * MIB }, true, undefined],
    ["a chunk that would take the room of a seal", { ...use, bytes: 33 * MIB + 1 }, true, "disk"],
    ["a seal in that room", { ...use, bytes: 33 * MIB + 1 }, false, undefined],
    ["a seal that just fits", { ...use, bytes: 49 * MIB }, false, undefined],
    ["a seal that does not fit", { ...use, bytes: 49 * MIB + 1 }, false, "disk"],
    [
      "a chunk below --spool-max by a segment",
      { ...use, bytes: 84 * MIB - 1, diskBytesMax: Infinity },
      true,
      undefined,
    ],
    [
      "a chunk at --spool-max but for a segment",
      { ...use, bytes: 84 * MIB, diskBytesMax: Infinity },
      true,
      "spool-max",
    ],
    ["a seal below --spool-max", { ...use, bytes: 100 * MIB - 1, diskBytesMax: Infinity }, false, undefined],
    ["a seal at --spool-max", { ...use, bytes: 100 * MIB, diskBytesMax: Infinity }, false, "spool-max"],
  ] as const)("%s", (_, now, isChunk, lack) => {
    expect(lackOfRoom(now, { bytes: MIB, isChunk })).toBe(lack);
  });
});

describe("a spool for segments of 16 MiB", () => {
  const facts = { segmentSize: 16 * MIB, spoolBytesMax: 256 * MIB, heldBytes: 0 };
  const disk = (total: number, free: number) => ({ totalBytes: total * MIB, freeBytes: free * MIB });
  const need = "The spool keeps the last segment and the open one's chunks: give it 64 MiB or more.";
  const lower = "The receiver stops reading when that is used: free space, or lower --spool-max.";

  test.each([
    [
      "on a disk of 24 MiB",
      { ...facts, disk: disk(24, 24) },
      "small",
      "--spool-dir: a disk of 24 MiB cannot hold segments of 16 MiB",
      need,
    ],
    [
      "with --spool-max 63 MiB",
      { ...facts, spoolBytesMax: 64 * MIB - 1, disk: disk(900, 900) },
      "small",
      "--spool-max: 63 MiB cannot hold segments of 16 MiB",
      need,
    ],
    [
      "on a full disk",
      { ...facts, disk: disk(900, 63) },
      "full",
      "the spool's disk has 63 MiB free, too little for segments of 16 MiB",
      need,
    ],
    [
      "that holds WAL on a full disk",
      { ...facts, heldBytes: 64 * MIB, disk: disk(900, 0) },
      "tight",
      "the spool's disk has 0 MiB free, and --spool-max is 256 MiB",
      lower,
    ],
    [
      "on a disk smaller than --spool-max",
      { ...facts, disk: disk(64, 64) },
      "tight",
      "the spool's disk has 64 MiB free, and --spool-max is 256 MiB",
      lower,
    ],
    [
      "on a large disk",
      { ...facts, disk: disk(900, 256) },
      "ok",
      "the spool's disk has 256 MiB free for up to 256 MiB",
      "",
    ],
    ["on an unknown disk", { ...facts, disk: undefined }, "ok", "up to 256 MiB", ""],
  ] as const)("%s", (_, given, kind, message, hint) => {
    expect(judgeSpool(given)).toEqual({ kind, message, hint });
  });

  test("that is full says which limit holds it", () => {
    const use = { bytes: 40 * MIB, spoolBytesMax: 64 * MIB, diskBytesMax: 50 * MIB, segmentSize: 16 * MIB };
    expect(noRoom("disk", use, "file:///spool").message).toBe(
      "the spool file:///spool is full: it holds 40 MiB, and its disk has no more room",
    );
    expect(noRoom("spool-max", use, "file:///spool")).toMatchObject({
      code: "store-full",
      message: "the spool file:///spool is full: it holds 40 MiB, and --spool-max is 64 MiB",
      hint: "It drains while the store takes its WAL. Free space on its disk, or raise --spool-max.",
    });
  });
});
