/** The status page: self-contained, nothing unescaped, its hashes right, and every trouble visible. */
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { renderStatus } from "../../src/cli/views/status.ts";
import { renderOverview as renderTable } from "../../src/cli/views/status-overview.ts";
import { judgeHealth } from "../../src/daemon/health/health.ts";
import { humanBytes, humanSeconds } from "../../src/daemon/status/human.ts";
import { CONTENT_SECURITY_POLICY } from "../../src/daemon/http/page/assets.ts";
import { markup, table, timeTag, withTimes } from "../../src/daemon/http/page/markup.ts";
import { renderOverview, troubleFirst } from "../../src/daemon/http/page/overview.ts";
import { renderPage } from "../../src/daemon/http/page/page.ts";
import { openEnd, recoverable } from "../../src/daemon/http/page/recoverable.ts";
import { niceTicks, niceTop, type Unit } from "../../src/daemon/http/page/scale.ts";
import type { GapDocument, StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import type { RecoveryMap } from "../../src/daemon/status/recovery-map.ts";
import { pageOf, statusFixture } from "./fixture.ts";
import { CALM_MAP, dayOfNumbers, manyClusters, PAGE_STATES } from "./page-states.ts";

const page = (changes: Partial<StatusDocument> = {}): string => pageOf(statusFixture(changes));
/** The text between the main tags, without markup. */
const words = (html: string): string =>
  (/<main [^>]*>([\s\S]*)<\/main>/.exec(html)?.[1] ?? "").replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");

describe("the page", () => {
  it("shows the four stages with what lies between them", () => {
    expect(words(page())).toMatch(
      /Server has written end of its WAL 16\/B374D848 Received up to date 16\/B374D848 Verified 2.07 KiB behind 16\/B374D000 Stored and acknowledged 1.00 MiB behind 16\/B364D000/,
    );
    expect(words(page())).toContain("Recovery point 412 ms age of the oldest commit not stored");
  });

  it("says to whom the archive is encrypted, and when a drill last opened it", () => {
    const archive = { backup: null, verify: null, drill: null };
    const encryption = { to: ["age1a", "age1b"], since: "2026-11-20T00:00:00.000Z", provedAt: null };
    expect(words(page())).not.toContain("Encrypted to");
    expect(words(page({ archive: { ...archive, encryption } }))).toContain(
      "Encrypted to age1a, age1b . No drill has opened a backup with an identity.",
    );
    const provedAt = "2026-11-21T10:00:00.000Z";
    expect(words(page({ archive: { ...archive, encryption: { ...encryption, provedAt } } }))).toMatch(
      /Encrypted to age1a, age1b \. A drill last opened a backup with an identity Sat 21 Nov 10:00 UTC/,
    );
  });

  it("loads nothing from anywhere: no URL but its own paths", () => {
    const html = page();
    expect([...html.matchAll(/(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)/g)].map((m) => m[1])).toEqual([
      "data:,",
      "status.json",
      "metrics",
      "healthz",
      "readyz",
    ]);
    expect(html).not.toMatch(/ (style|on[a-z]+)=/);
  });

  it("its style and script are exactly those that the policy allows", () => {
    for (const tag of ["style", "script"] as const) {
      const content = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(page())?.[1] ?? "";
      const digest = createHash("sha256").update(content).digest("base64");
      expect(CONTENT_SECURITY_POLICY).toContain(`${tag}-src 'sha256-${digest}'`);
    }
  });

  it("escapes whatever came from outside", () => {
    const evil = `<img src=x onerror="alert('1')">&`;
    const html = page({
      cluster: evil,
      store: evil,
      server: evil,
      errors: [{ at: evil, code: evil, message: evil, hint: evil, times: 3 }],
      gaps: [
        {
          timeline: 1,
          fromLsn: evil,
          toLsn: evil,
          detectedAt: evil,
          reason: evil,
          coveredBy: null,
          lastCommitAt: null,
        },
      ],
      slot: {
        name: evil,
        exists: true,
        active: null,
        restartLsn: null,
        walStatus: evil,
        retainedBytes: 1,
        safeBytes: 1,
      },
    });
    expect(html).not.toContain("<img");
    expect(html).toContain("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;");
  });

  const troubles: readonly (readonly [string, Partial<StatusDocument>, RegExp])[] = [
    [
      "nothing known yet",
      {
        serverLsn: null,
        receivedLsn: null,
        verifiedLsn: null,
        storedLsn: null,
        rpoSeconds: null,
        lagBytes: null,
        server: null,
        systemIdentifier: null,
        timeline: null,
        slot: null,
      },
      /Received not known now –/,
    ],
    [
      "one of several that has failed",
      {
        ...{ state: "failed", slot: null, restart: { at: "2026-11-20T10:01:00.000Z", failures: 2 } },
        lastError: { at: "2026-11-20T10:00:00.000Z", code: "wal-diverged", message: "it <went> away", hint: "Look." },
      },
      /Critical the receiver has failed: it &lt;went&gt; away; it is started again at Fri 20 Nov 10:01:00 UTC .*To do: Look\..* Slot – not known now/,
    ],
    [
      "a file that could not be reloaded",
      {
        configuration: {
          ...{ file: "/etc/seawall.yaml", loadedAt: "2026-11-20T09:00:00.000Z" },
          error: { at: "2026-11-20T10:00:00.000Z", code: "usage", message: "seawall.yaml:3:1: what?", hint: "" },
        },
      },
      /Warnings the configuration could not be reloaded: seawall\.yaml:3:1: what\? .*goes on with the configuration that was loaded at Fri 20 Nov 09:00:00 UTC/,
    ],
    [
      "a missing slot",
      {
        slot: {
          name: "seawall",
          exists: false,
          active: null,
          restartLsn: null,
          walStatus: null,
          retainedBytes: null,
          safeBytes: null,
        },
      },
      /Slot seawall missing/,
    ],
    [
      "a lost slot",
      {
        slot: {
          name: "seawall",
          exists: true,
          active: false,
          restartLsn: null,
          walStatus: "lost",
          retainedBytes: null,
          safeBytes: -5,
        },
      },
      /– kept lost, 0 B left/,
    ],
    [
      "a gap",
      {
        gaps: [
          {
            timeline: 1,
            fromLsn: "0/1000000",
            toLsn: "0/3000000",
            detectedAt: "x",
            reason: "slot lost",
            coveredBy: null,
            lastCommitAt: null,
          },
        ],
      },
      /Critical WAL is missing: 1 gap, from 0\/1000000 to 0\/3000000 on timeline 1 \(slot lost\)/,
    ],
    [
      "a spool that fills",
      { durability: "spool", spoolBytes: 900, spoolLimitBytes: 1000, uploadedLsn: "16/B0000000" },
      /In the spool, acknowledged .*Spool 900 B of 0.98 KiB; the store has all before 16\/B0000000/,
    ],
    ["an error", {}, /store-unavailable no answer from wal-archive\. Check the endpoint/],
    ["no error", { errors: [] }, /None since the start/],
  ];
  it.each(troubles)("%s", (_, changes, expected) => {
    expect(words(page(changes))).toMatch(expected);
  });
});

describe("the first sentence", () => {
  const { ok, gap } = PAGE_STATES;
  const plain = (status: StatusDocument, map: RecoveryMap | null): string =>
    recoverable(status, map)
      .text.replaceAll(/<[^>]*>/g, "")
      .replaceAll(/\s/g, " ");
  const unread: RecoveryMap = { ...CALM_MAP, windows: [] };
  const rows: readonly (readonly [string, StatusDocument, RecoveryMap | null, string])[] = [
    [
      "all is well",
      ok.status,
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to now; losing the primary now would lose 412 ms.",
    ],
    [
      "nothing is on its way",
      { ...ok.status, rpoSeconds: 0 },
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to now; losing the primary now would lose no commit.",
    ],
    [
      "the store is down",
      PAGE_STATES["store down"].status,
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to Fri 20 Nov 09:19 UTC; losing the primary now would lose 40 min 12 s.",
    ],
    [
      "the age of the oldest commit is not known",
      PAGE_STATES["server down"].status,
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to Fri 20 Nov 09:59 UTC at least; losing the primary now would lose all that was not stored.",
    ],
    [
      "WAL arrives behind a gap and cannot be used",
      gap.status,
      gap.recovery,
      "Recoverable from Tue 10 Nov 10:00 UTC to Thu 19 Nov 08:00 UTC; losing the primary now would lose everything since Thu 19 Nov 08:00 UTC.",
    ],
    [
      "a gap was found after the archive was read",
      statusFixture({ gaps: [{ ...gapOf(), detectedAt: "2026-11-20T10:00:00.000Z" }] }),
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to Fri 20 Nov 09:59 UTC; losing the primary now would lose everything since Fri 20 Nov 09:59 UTC.",
    ],
    [
      "a backup covers the gap",
      PAGE_STATES["gap covered"].status,
      PAGE_STATES["gap covered"].recovery,
      "Recoverable from Thu 19 Nov 14:00 UTC to now; losing the primary now would lose 412 ms. Also from Tue 10 Nov 10:00 UTC to Thu 19 Nov 08:00 UTC.",
    ],
    [
      "there is no backup",
      ok.status,
      { ...unread, backups: [] },
      "Nothing can be recovered: there is no base backup. Losing the primary now would lose everything.",
    ],
    [
      "the WAL of the backups is missing",
      ok.status,
      unread,
      "Nothing can be recovered: no base backup has the WAL that it needs. Losing the primary now would lose everything.",
    ],
    [
      "the archive has not been read",
      ok.status,
      null,
      "What can be recovered is not known yet: the archive has not been read. Losing the primary now would lose 412 ms.",
    ],
    [
      "an idle server has crashed: the time counts from its last word",
      statusFixture({ ...PAGE_STATES["server down"].status, rpoSeconds: 32, rpoIsAtMost: true }),
      CALM_MAP,
      "Recoverable from Tue 10 Nov 10:00 UTC to Fri 20 Nov 09:59 UTC; losing the primary now would lose at most 32.0 s.",
    ],
  ];
  it.each(rows)("%s", (_, status, map, expected) => expect(plain(status, map)).toBe(expected));

  it("the drawn window ends where the sentence says", () => {
    expect(openEnd(PAGE_STATES["store down"].status, CALM_MAP)?.at).toBe("2026-11-20T09:19:48.500Z");
    expect(openEnd(gap.status, gap.recovery)).toBeUndefined();
  });
});

function gapOf(): StatusDocument["gaps"][number] {
  return {
    timeline: 3,
    fromLsn: "16/B3",
    toLsn: "16/B4",
    detectedAt: "",
    reason: "lost",
    coveredBy: null,
    lastCommitAt: null,
  };
}

describe("markup", () => {
  it("a value is text, whatever it holds; markup stays markup", () => {
    expect(markup`<p title="${'"><script>'}">${"<b>&'"}${markup`<i>${1}</i>`}${[markup`<u>${">"}</u>`]}</p>`.text).toBe(
      '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;&#39;<i>1</i><u>&gt;</u></p>',
    );
  });

  it("a time has its zone, and UTC in its title; text that is no time stays text", () => {
    expect(timeTag("2026-11-20T10:00:00.500Z", "second").text).toBe(
      '<time datetime="2026-11-20T10:00:00.500Z" title="2026-11-20 10:00:00 UTC" data-as="second">Fri\u00a020\u00a0Nov 10:00:00\u00a0UTC</time>',
    );
    expect(timeTag("<soon>").text).toBe("&lt;soon&gt;");
    expect(withTimes("<a> since 2026-11-20T10:00:00Z, b").text).toMatch(/^&lt;a&gt; since <time .*<\/time>, b$/);
  });

  it("a table names its cells where it is a list", () => {
    const { text } = table({ caption: "C", head: ["A<", "B"], rows: [{ key: "k", cells: ["1", markup`<i>2</i>`] }] });
    expect(text).toContain(
      'data-label="A&lt;"><span>1</span></th><td role="cell" data-label="B"><span><i>2</i></span></td>',
    );
  });
});

describe("the charts", () => {
  const drawn = (points: ReturnType<typeof dayOfNumbers>): string =>
    renderPage({ status: statusFixture(), history: { points, restorePoints: [] }, recovery: null });

  it("four of them, with units on the axis and the values for the read-out", () => {
    const html = drawn(dayOfNumbers());
    expect([...html.matchAll(/data-chart="(\w+)"/g)].map((found) => found[1])).toEqual(["rpo", "lag", "rate", "put"]);
    expect(html).toContain("<span>2.00 MiB</span><span>1.00 MiB</span><span>0 B</span>");
    expect(/data-chart="lag".*?data-values="([^"]*)"/.exec(html)?.[1]?.split(",")).toHaveLength(288);
  });

  it("a line is broken where nothing was measured, and a single point is seen", () => {
    const points = dayOfNumbers().filter((_, i) => i < 100 || i === 150 || i > 200);
    const lag = /data-chart="lag".*?<\/svg><\/div>/.exec(drawn(points))?.[0] ?? "";
    expect(lag.match(/<polyline/g)).toHaveLength(3);
    const [x1, x2] =
      [...lag.matchAll(/points="([^"]*)"/g)][1]?.[1]?.split(" ").map((one) => Number(one.split(",")[0])) ?? [];
    expect((x2 ?? 0) - (x1 ?? 0)).toBeCloseTo(3);
  });

  const tops: readonly (readonly [number, Unit, number])[] = [
    [0, "bytes", 1024],
    [1_500_000, "bytes", 2 ** 21],
    [0, "seconds", 0.01],
    [0.3, "seconds", 0.5],
    [6, "seconds", 10],
    [61, "seconds", 120],
    [9e9, "seconds", 9e9],
  ];
  it.each(tops)("%d %s end at %d", (value, unit, top) => expect(niceTop(value, unit)).toBeCloseTo(top));

  it("ticks stand at full hours or days, and are few", () => {
    const begin = Date.parse("2026-11-19T10:07:00Z");
    const hours = niceTicks(begin, begin + 24 * 3_600_000, 4).map(({ ms }) => new Date(ms).getUTCHours());
    expect(hours).toEqual([12, 18, 0, 6]);
    expect(niceTicks(begin, begin + 9 * 86_400_000, 6).map(({ style }) => style)).toEqual(["day", "day", "day", "day"]);
    expect(niceTicks(begin, begin + 9e12, 6).length).toBeLessThanOrEqual(7);
  });
});

describe("the overview", () => {
  it("shows trouble first, and says whose", () => {
    const clusters = manyClusters().map(({ status }) => status);
    expect(
      troubleFirst(clusters)
        .map(({ cluster }) => cluster)
        .slice(0, 4),
    ).toEqual([...["warehouse", "zones", "tickets", "accounts"]]);
    const html = renderOverview({ clusters, configuration: null, version: "0", at: "2026-11-20T10:00:00Z" });
    expect(html).toContain("Critical: warehouse, zones. Warning: tickets.");
  });

  const { ok, gap, "gap covered": covered } = PAGE_STATES;
  const fresh = { ...gap.status.gaps[0], coveredBy: null, detectedAt: "2026-11-20T09:59:59.000Z" };
  it.each<[string, StatusDocument, string]>([
    ["from the first backup of a calm archive", ok.status, "Tue 10 Nov 10:00 UTC"],
    ["while the store is down", PAGE_STATES["store down"].status, "Tue 10 Nov 10:00 UTC"],
    ["behind a gap, from the backup that covers it", covered.status, "Thu 19 Nov 14:00 UTC"],
    ["not with an open gap", gap.status, "–"],
    ["not with a gap that is newer than the look", statusFixture({ ...ok.status, gaps: [fresh as GapDocument] }), "–"],
    ["not before the archive was read", statusFixture(), "–"],
  ])("says since when a cluster can be recovered, as its own page does: %s", (_, status, expected) => {
    const overview = { clusters: [status], configuration: null, version: "0", at: "2026-11-20T10:00:00Z" };
    expect(words(renderOverview(overview))).toMatch(/Cluster Health What is wrong Recoverable since Recovery point /);
    const cell = /data-label="Recoverable since">(.*?)<\/td>/.exec(renderOverview(overview))?.[1] ?? "";
    expect(cell.replaceAll(/<[^>]*>/g, "").replaceAll(/\s/g, " ")).toBe(expected);
    const since = expected === "–" ? "–" : /^\d{4}-\d\d-\d\d \d\d:\d\dZ$/;
    const [, line = ""] = renderTable(overview, { colours: false }).split("\n");
    expect(line.split(/ {2,}/)[8]).toMatch(since);
    if (expected !== "–") expect(renderStatus(status, { colours: false })).toMatch(/^recoverable +since 2026-11-1/m);
  });
});

describe("what a loss of the primary would cost", () => {
  const away = { ...PAGE_STATES["server down"].status, rpoSeconds: 3_720, rpoIsAtMost: true };
  it.each<[string, Partial<StatusFacts>, RegExp]>([
    ["an upper bound", away, /at most (the commits of the last )?62 min 0 s/],
    [
      "the age of a commit",
      { ...away, rpoIsAtMost: false },
      /(?<!at most )(?<!at most the commits of the last )62 min 0 s/,
    ],
  ])("is %s in every view", (_, facts, expected) => {
    const status = statusFixture(facts);
    const overview = { clusters: [status], configuration: null, version: "0", at: status.at };
    const views = [
      words(renderOverview(overview)),
      renderTable(overview, { colours: false }),
      renderStatus(status, { colours: false }),
      words(pageOf(status)).replaceAll("\u00a0", " "),
      // The text of the finding, which probes, plug-in line and notifications show.
      judgeHealth(status).findings.find(({ kind }) => kind === "not-receiving")?.meaning ?? "",
      judgeHealth(status, { maxRpoMs: 1 }).findings.find(({ kind }) => kind === "recovery-point")?.meaning ?? "",
    ];
    for (const view of views) expect(view.replaceAll("\u00a0", " ")).toMatch(expected);
  });
});

describe("numbers for people", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "0.98 KiB"],
    [1024, "1.00 KiB"],
    [10_240, "10.0 KiB"],
    [1_048_576, "1.00 MiB"],
    [150 * 2 ** 30, "150 GiB"],
    [2 ** 60, "1024 PiB"],
  ])("%i bytes are %s", (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  it.each([
    [0, "0 s"],
    [0.0123, "12.3 ms"],
    [0.9999, "1.00 s"],
    [59.96, "60.0 s"],
    [125, "2 min 5 s"],
    [7265, "2 h 1 min"],
    [200_000, "2 d 7 h"],
  ])("%d seconds are %s", (seconds, text) => expect(humanSeconds(seconds)).toBe(text));
});
