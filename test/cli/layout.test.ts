/** Tables on narrow and wide terminals, times and counts: what a person reads. */
import { afterEach, describe, expect, it, test } from "vitest";
import { columns, visibleLength, wrapped } from "../../src/cli/views/layout.ts";
import { terminalWidth } from "../../src/cli/io.ts";
import { painted } from "../../src/cli/views/painted.ts";
import { shownTime, shownTimesIn } from "../../src/cli/views/time.ts";
import { counted } from "../../src/plural.ts";
import { join } from "node:path";
import { runCli } from "../harness/process.ts";

const ARCHIVE = join(import.meta.dirname, "..", "fixtures", "archive");

describe("columns", () => {
  const rows = [
    ["id", "finished", "type", "reaches"],
    ["20250303T080002Z-eb42d435", "2025-03-03 08:00:07Z", "full", "0/15000D0 on timeline 2", "pinned"],
    ["20250306T080001Z-d652b08a", "2025-03-06 08:00:05Z", "full", "0/15000D0"],
  ];

  it("without a width, and where all fits, stand side by side", () => {
    const wide = [
      "id                         finished              type  reaches",
      "20250303T080002Z-eb42d435  2025-03-03 08:00:07Z  full  0/15000D0 on timeline 2  pinned",
      "20250306T080001Z-d652b08a  2025-03-06 08:00:05Z  full  0/15000D0",
    ];
    expect(columns(rows)).toEqual(wide);
    expect(columns(rows, 86)).toEqual(wide);
  });

  it("that do not fit take lines of their own, aligned among each other", () => {
    expect(columns(rows, 60)).toEqual([
      "id                         finished              type",
      "  reaches",
      "20250303T080002Z-eb42d435  2025-03-03 08:00:07Z  full",
      "  0/15000D0 on timeline 2  pinned",
      "20250306T080001Z-d652b08a  2025-03-06 08:00:05Z  full",
      "  0/15000D0",
    ]);
  });

  it("with a long text at the end wrap it beside its label", () => {
    expect(
      columns(
        [
          ["state", "ok"],
          ["last error", "the store has not answered for so long that it counts as gone"],
        ],
        50,
      ),
    ).toEqual([
      "state       ok",
      "last error  the store has not answered for so long",
      "            that it counts as gone",
    ]);
  });

  it.each([80, 60, 40, 20, 3, 1])("keep every word at a width of %i", (width) => {
    const words = (lines: readonly string[]): string[] =>
      lines
        .flatMap((line) => line.split(/\s+/))
        .filter(Boolean)
        .sort();
    expect(words(columns(rows, width))).toEqual(words(columns(rows)));
  });
});

describe("wrapped text", () => {
  it("breaks at spaces alone, and a long word stands by itself", () => {
    expect(wrapped("see file:///a/long/place/of/an/archive for more", 20, 2)).toEqual([
      "see",
      "  file:///a/long/place/of/an/archive",
      "  for more",
    ]);
  });

  it("keeps its colour on each line and gives it to nothing else", () => {
    const lines = wrapped(`a ${painted("bb cc", "red", true)} d`, 4);
    expect(lines).toEqual(["a \u001b[31mbb\u001b[0m", "\u001b[31mcc\u001b[0m d"]);
    expect(lines.map(visibleLength)).toEqual([4, 4]);
  });
});

test.each([
  [{ isTTY: true, columns: 80 }, {}, 80],
  [{ isTTY: true, columns: 80 }, { COLUMNS: "200" }, 200],
  [{}, { COLUMNS: "40" }, 40],
  [{}, {}, undefined],
  [{ isTTY: true, columns: 0 }, { COLUMNS: "0" }, undefined],
  [{ isTTY: true, columns: 80 }, { COLUMNS: "wide" }, 80],
])("stdout %j with %j is %s wide", (stream, env, expected) => expect(terminalWidth(stream, env)).toBe(expected));

describe("a time", () => {
  const zoneBefore = process.env["TZ"];
  afterEach(() => {
    if (zoneBefore === undefined) delete process.env["TZ"];
    else process.env["TZ"] = zoneBefore;
  });

  it.each([
    ["UTC", "2025-03-03T08:00:07.123Z", "2025-03-03 08:00:07Z"],
    ["Europe/Berlin", "2025-03-03T23:30:07Z", "2025-03-04 00:30:07+01:00"],
    ["Europe/Berlin", "2025-07-03T23:30:07Z", "2025-07-04 01:30:07+02:00"],
    ["America/St_Johns", "2025-01-01T00:00:00Z", "2024-12-31 20:30:00-03:30"],
    ["Europe/Berlin", "the end", "the end"],
  ])("in %s: %s is shown as %s", (zone, iso, expected) => {
    process.env["TZ"] = zone;
    expect(shownTime(iso)).toBe(expected);
  });

  it("exactly, as a recovery target needs it", () => {
    process.env["TZ"] = "Europe/Berlin";
    expect(shownTime("2025-03-03T08:00:07.123456Z", "exact")).toBe("2025-03-03 09:00:07.123456+01:00");
  });

  it("to the minute", () => {
    process.env["TZ"] = "Asia/Kolkata";
    expect(shownTime("2025-03-03T08:00:59Z", "minute")).toBe("2025-03-03 13:30+05:30");
  });
});

test.each([
  [0, "0 segments"],
  [1, "1 segment"],
  [1n, "1 segment"],
  [2, "2 segments"],
])("%s is counted as %s", (number, expected) => expect(counted(number, "segment")).toBe(expected));

describe("list of an archive", () => {
  const list = async (env: Record<string, string>): Promise<string[]> => {
    const { stdout } = await runCli(["list", "--store", `file://${ARCHIVE}`, "--cluster", "main"], { env });
    return stdout.trimEnd().split("\n");
  };

  it("fits 80 columns, is never cut, and is the same in a pipe and at 200", { timeout: 120_000 }, async () => {
    const piped = await list({});
    const wide = await list({ COLUMNS: "200" });
    expect(wide).toEqual(piped);
    expect(Math.max(...piped.map((line) => line.length))).toBeGreaterThan(100);
    const words = (lines: readonly string[]): string[] => lines.join(" ").split(/\s+/).sort();
    for (const width of [80, 40]) {
      const narrow = await list({ COLUMNS: String(width) });
      expect(words(narrow)).toEqual(words(piped));
      const long = narrow.filter((line) => line.length > width);
      // A word that has no space in it, such as the store's URL, cannot be broken.
      expect(long.filter((line) => line.trim().includes(" ") && width === 80 && !line.startsWith("store"))).toEqual([]);
    }
    const local = await list({ TZ: "Europe/Berlin" });
    expect(local.join("\n")).toContain("2025-03-03 09:00:07+01:00");
  });
});

test("a line that is wrapped keeps its margin", () => {
  expect(wrapped("  unreachable: 0/B12D88 to 0/2700000", 24, 4)).toEqual([
    "  unreachable: 0/B12D88",
    "    to 0/2700000",
  ]);
  expect(wrapped("note  two  spaces stay", 12, 2)).toEqual(["note  two ", "  spaces", "  stay"]);
});

test("times within a sentence are shown exactly, as --target-time takes them", () => {
  expect(shownTimesIn("unreachable: 2026-11-30T05:55:52.654398Z to 2026-11-30T05:56:35Z; and 2026-11-30")).toBe(
    "unreachable: 2026-11-30 05:55:52.654398Z to 2026-11-30 05:56:35Z; and 2026-11-30",
  );
});
