/** How much a spool may hold, and what `receive` and `check` say of a disk that is too small. */
import { describe, expect, test } from "vitest";
import { judgeSpool, lackOfRoom, noRoom } from "../../src/receive/spool-room.ts";

const MIB = 1 << 20;

describe("one more file of 16 MiB", () => {
  const use = { spoolBytesMax: 96 * MIB, diskBytesMax: 64 * MIB, segmentSize: 16 * MIB };

  test.each([
    ["just fits on the disk", { ...use, bytes: 48 * MIB }, undefined],
    ["does not fit on the disk", { ...use, bytes: 48 * MIB + 1 }, "disk"],
    ["just fits below --spool-max", { ...use, bytes: 80 * MIB, diskBytesMax: Infinity }, undefined],
    ["does not fit below --spool-max", { ...use, bytes: 80 * MIB + 1, diskBytesMax: Infinity }, "spool-max"],
    ["fits neither; --spool-max is named", { ...use, bytes: 96 * MIB }, "spool-max"],
  ] as const)("%s", (_, now, lack) => {
    expect(lackOfRoom(now)).toBe(lack);
  });
});

describe("a spool for segments of 16 MiB", () => {
  const facts = { segmentSize: 16 * MIB, spoolBytesMax: 256 * MIB, heldBytes: 0 };
  const disk = (total: number, free: number) => ({ totalBytes: total * MIB, freeBytes: free * MIB });
  const need = "The spool keeps whole segments, the last and the open one always: give it 64 MiB or more.";
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
