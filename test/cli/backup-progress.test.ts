/** What a backup says while it runs: sentences and a line for people, objects for machines. */
import { expect, test, vi } from "vitest";
import type { BackupNews } from "../../src/backup/options.ts";
import { BackupDisplay, newsEvent, newsLine } from "../../src/cli/views/backup-progress.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";

const ID = "20260203T040506Z-0badcafe";
const lsn = parseLsn("2/28");

const ROWS: readonly (readonly [BackupNews, RegExp, Record<string, unknown>])[] = [
  [
    { kind: "checkpoint", id: ID, server: "db:5432", fromStandby: true },
    /^backup 2026.* of db:5432, a standby: waiting for the checkpoint it begins with$/,
    { event: "checkpoint", id: ID, server: "db:5432", fromStandby: true },
  ],
  [
    { kind: "no-receiver", tipLsn: undefined, serverLsn: lsn },
    /^the archive has no WAL yet, the server is at 2\/28: no receiver seems to run; run seawall receive/,
    { event: "no-receiver", tipLsn: null, serverLsn: "2/28" },
  ],
  [
    { kind: "started", id: ID, startLsn: lsn, timeline: timelineOf(3), tablespaces: 1, totalBytes: 5 << 20 },
    /^started at 2\/28 on timeline 3: data directory and 1 tablespace, about 5.00 MiB$/,
    { event: "started", id: ID, startLsn: "2/28", timeline: 3, tablespaces: 1, totalBytes: 5 << 20 },
  ],
  [
    { kind: "verified", files: 900, bytes: 1 << 20, storedBytes: 1 << 19 },
    /^900 files \(1.00 MiB\) are stored in 512 KiB, each as the server's manifest says$/,
    { event: "verified", files: 900, bytes: 1 << 20, storedBytes: 1 << 19 },
  ],
  [
    { kind: "wal-wait", storedLsn: lsn, stopLsn: parseLsn("2/100") },
    /^waiting for WAL up to 2\/100; the archive has it up to 2\/28$/,
    { event: "wal-wait", storedLsn: "2/28", stopLsn: "2/100" },
  ],
  [
    { kind: "wal-stalled", storedLsn: lsn, stopLsn: parseLsn("2/100") },
    /^no WAL arrives: .* 2\/28 of 2\/100; run seawall receive .* --with-wal$/,
    { event: "wal-stalled", storedLsn: "2/28", stopLsn: "2/100" },
  ],
  [{ kind: "warning", message: "a page" }, /^the server warns: a page$/, { event: "warning", message: "a page" }],
];

test.each(ROWS.map(([news, line, event]) => ({ kind: news.kind, news, line, event })))(
  "$kind",
  ({ news, line, event }) => {
    expect(newsLine(news)).toMatch(line);
    expect(newsEvent(news)).toEqual(event);
  },
);

function display(json: boolean, interactive: boolean): { shown: BackupDisplay; text: () => string } {
  let text = "";
  const io = { out: async () => undefined, err: (more: string) => void (text += more), colours: false, interactive };
  return { shown: new BackupDisplay(io, json), text: () => text };
}

const STARTED: BackupNews = {
  kind: "started",
  ...{ id: ID, startLsn: lsn, timeline: timelineOf(1), tablespaces: 0, totalBytes: 100 << 20 },
};

test.each([
  ["a terminal", false, true, /\rbacking up {3}25% .*25\.0 MiB of 100 MiB .*tablespace \/srv\/fast/],
  [
    "a machine",
    true,
    false,
    /\{"event":"progress","bytes":26214400,"totalBytes":104857600,.*"detail":"tablespace \/srv/,
  ],
])("progress for %s", (_title, json, interactive, expected) => {
  vi.useFakeTimers();
  try {
    const { shown, text } = display(json, interactive);
    shown.progress.tell(STARTED);
    shown.progress.bytes = 25 << 20;
    shown.progress.tablespace = "/srv/fast";
    vi.advanceTimersByTime(2_500);
    shown.end();
    const before = text();
    expect(before).toMatch(expected);
    vi.advanceTimersByTime(10_000);
    expect(text()).toBe(before);
  } finally {
    vi.useRealTimers();
  }
});
