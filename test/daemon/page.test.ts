/** The status page: self-contained, nothing unescaped, its hashes right, and every trouble visible. */
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { humanBytes, humanSeconds } from "../../src/daemon/status/human.ts";
import { CONTENT_SECURITY_POLICY } from "../../src/daemon/http/page-assets.ts";
import { renderPage } from "../../src/daemon/http/page.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { rates, type Sample, SAMPLES_MAX, Trend } from "../../src/daemon/status/trend.ts";
import { statusFixture } from "./fixture.ts";

const page = (changes: Partial<StatusDocument> = {}): string => renderPage(statusFixture(changes), []);
/** The text between the main tags, without markup. */
const words = (html: string): string =>
  (/<main>([\s\S]*)<\/main>/.exec(html)?.[1] ?? "").replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");

describe("the page", () => {
  it("shows the four stages with what lies between them", () => {
    expect(words(page())).toMatch(
      /Server has written 16\/B374D848 end of its WAL Received 16\/B374D848 up to date Verified 16\/B374D000 2.07 KiB behind Stored and acknowledged 16\/B364D000 1.00 MiB behind/,
    );
    expect(words(page())).toContain("Recovery point 412 ms");
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
      gaps: [{ timeline: 1, fromLsn: evil, toLsn: evil, detectedAt: evil, reason: evil, coveredBy: null }],
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
      /Received – not known yet/,
    ],
    [
      "one of several that has failed",
      {
        ...{ state: "failed", slot: null, restart: { at: "2026-11-20T10:01:00.000Z", failures: 2 } },
        lastError: { at: "2026-11-20T10:00:00.000Z", code: "wal-diverged", message: "it <went> away", hint: "Look." },
      },
      /critical: the receiver has failed: it &lt;went&gt; away; it is started again at 2026-11-20T10:01:00.000Z .*To do: Look\..* Slot – not known now/,
    ],
    [
      "a file that could not be reloaded",
      {
        configuration: {
          ...{ file: "/etc/seawall.yaml", loadedAt: "2026-11-20T09:00:00.000Z" },
          error: { at: "2026-11-20T10:00:00.000Z", code: "usage", message: "seawall.yaml:3:1: what?", hint: "" },
        },
      },
      /warning: the configuration could not be reloaded: seawall\.yaml:3:1: what\? .*goes on with the configuration that was loaded at 2026-11-20T09:00:00.000Z/,
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
          },
        ],
      },
      /critical: WAL is missing: 1 gap, from 0\/1000000 to 0\/3000000 on timeline 1 \(slot lost\)/,
    ],
    [
      "a spool that fills",
      { durability: "spool", spoolBytes: 900, spoolLimitBytes: 1000, uploadedLsn: "16/B0000000" },
      /In the spool, acknowledged.*Spool 900 B of 0.98 KiB; the store has all before 16\/B0000000/,
    ],
    ["an error", {}, /store-unavailable no answer from wal-archive Check the endpoint/],
    ["no error", { errors: [] }, /None since start/],
  ];
  it.each(troubles)("%s", (_, changes, expected) => {
    expect(words(page(changes))).toMatch(expected);
  });
});

describe("the trend", () => {
  const sample = (atMs: number, receivedBytes: number): Sample => ({ atMs, receivedBytes, lagBytes: 5, rpoSeconds: 0 });

  it("rates are per second, and a restart is no negative rate", () => {
    expect(rates([sample(0, 0), sample(2000, 4096), sample(4000, 0)])).toEqual([2048, 0]);
  });

  it("draws a line once there is something to draw, and keeps no more than its bound", () => {
    const trend = new Trend();
    for (let i = 0; i < SAMPLES_MAX + 50; i++) trend.add(statusFixture({ lagBytes: i }), i * 2000);
    expect(trend.samples()).toHaveLength(SAMPLES_MAX);
    const html = renderPage(statusFixture(), trend.samples());
    expect(html).toContain("Lag, last ten minutes: at most 349 B");
    expect(html.match(/<polyline/g)).toHaveLength(2);
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
