/** The cost of a month, worked out by hand: requests by interval and rate, storage by window, transfer by restores. */
import { describe, expect, test } from "vitest";
import { chunksPerSegment, type CostInput, MONTH_MS, monthlyCost } from "../../src/cli/cost.ts";
import { inProcess } from "./cli.ts";

const MIB = 2 ** 20;
const DAY = 86_400_000;
/** One segment every 16 seconds; prices of 1, so that amounts show. */
const INPUT: CostInput = {
  ...{ walRateBytes: MIB, segmentSizeBytes: 16 * MIB, shipIntervalMs: 1000, compressionRatio: 4 },
  ...{ recoveryWindowMs: 14 * DAY, backupSizeBytes: 80 * MIB, backupEveryMs: DAY, restoresPerMonth: 2 },
  ...{ priceStorage: 1, priceWrites: 1, priceReads: 1, priceTransfer: 1 },
};

describe("chunks of a segment", () => {
  test.each([
    ["one a second, but for the last second, which the seal stores", {}, 15],
    ["none when a segment is full before its first chunk is due", { walRateBytes: 16 * MIB }, 0],
    ["none when both come at the same time", { shipIntervalMs: 16_000 }, 0],
    ["one when the interval is a little shorter", { shipIntervalMs: 15_999 }, 1],
    // 63 shipped; one merge of 32.
    ["a slow server, with its merges", { walRateBytes: MIB / 4 }, 63 + 1],
    // 65 535 shipped; 2047 merges of 32, 63 of these, 1 of those.
    ["a very slow one", { walRateBytes: 256 }, 65_535 + 2047 + 63 + 1],
    // A chunk each 50 ms.
    ["an interval of 0", { shipIntervalMs: 0 }, 319 + 9],
  ] as const)("%s", (_, changes, chunks) => {
    expect(chunksPerSegment({ ...INPUT, ...changes })).toBe(chunks);
  });
});

test("a month: each line by hand", () => {
  const lines = new Map(monthlyCost(INPUT).map((line) => [line.what, line]));
  const seconds = MONTH_MS / 1000;
  expect(seconds).toBe(2_629_800);
  expect(lines.get("segments")?.amount).toBeCloseTo(164_362.5, 6);
  expect(lines.get("chunks")?.amount).toBeCloseTo(164_362.5 * 15, 6);
  // 8766 looks of three listings, 43 830 of one, 4383 of two.
  expect(lines.get("status")?.amount).toBeCloseTo(78_894, 6);
  // 30.4375 backups of ten uploads.
  expect(lines.get("backups")?.amount).toBeCloseTo(304.375, 6);
  // 15 days of 1 MiB/s, a quarter of it stored.
  expect(lines.get("stored WAL")?.amount).toBe((15 * 86_400 * MIB) / 4);
  expect(lines.get("stored backups")?.amount).toBe(15 * 80 * MIB);
  // Two restores: a backup, and twelve hours of WAL.
  expect(lines.get("transfer")?.amount).toBe(2 * (80 * MIB + (43_200 * MIB) / 4));
  expect(lines.get("reads")?.amount).toBe(2 * (10 + 2700));
  // Prices of 1 for 1000 requests and 10^9 bytes.
  expect(lines.get("segments")?.price).toBeCloseTo(164.3625, 6);
  expect(lines.get("stored backups")?.price).toBeCloseTo(1.2582912, 6);
});

describe("the command", () => {
  test("prints a table and its sum, and the same as JSON", async () => {
    const flags = ["cost", "--wal-rate", "1MiB", "--price-storage", "0", "--price-transfer", "0", "--price-reads", "0"];
    const { code, stdout } = await inProcess([...flags, "--price-writes", "1"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^segments +164363 requests +164\.36$/m);
    const { total, month } = JSON.parse((await inProcess([...flags, "--price-writes", "1", "--json"])).stdout) as {
      total: number;
      month: { price: number }[];
    };
    expect(total).toBeCloseTo(
      month.reduce((sum, { price }) => sum + price, 0),
      9,
    );
    expect(stdout).toMatch(new RegExp(`^total +${total.toFixed(2)}$`, "m"));
  });

  test.each([
    ["without a rate", []],
    ["with a ratio of 0", ["--wal-rate", "1MiB", "--compression-ratio", "0"]],
    ["with a price that is no number", ["--wal-rate", "1MiB", "--price-reads", "cheap"]],
  ] as const)("%s it is wrong usage", async (_, flags) => {
    expect(await inProcess(["cost", ...flags])).toMatchObject({ code: 2 });
  });
});
