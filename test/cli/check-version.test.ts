/** `check` accepts the server versions that `receive` accepts, and says the same about a newer one. */
import { describe, expect, test } from "vitest";
import { type Finding, judgeServer } from "../../src/cli/check/findings.ts";
import { knownMajor, receivableMajor } from "../../src/replication/server-version.ts";
import { MAJOR_MAX, MAJOR_MIN } from "../../src/wal/format.ts";

const NEWER = (MAJOR_MAX + 1) * 10_000 + 2;
const refusal = `the server is PostgreSQL ${MAJOR_MAX + 1}, newer than this Seawall knows`;

function judge(serverVersion: number, allowsNewer: boolean): Finding | undefined {
  const facts = {
    ...{ server: "db", user: "repl", applicationName: "seawall", tls: true, serverVersion, inRecovery: false },
    ...{ segmentSize: 1 << 24, settings: new Map<string, string>(), sql: undefined },
  };
  const memory = { bufferSegments: 3, bufferBytesMax: 1 << 28 };
  const limits = { statusIntervalMs: 10_000, memory, hasSpool: false, codecThreads: 2, memoryLimitBytes: 1 << 30 };
  return judgeServer(facts, { slot: "seawall", allowsNewer, ...limits }).find(({ name }) => name === "version");
}

test.each<[serverVersion: number, verdict: string, message: string]>([
  [130_020, "fail", "the server is PostgreSQL 13, older than Seawall supports"],
  [MAJOR_MIN * 10_000, "ok", `PostgreSQL ${MAJOR_MIN}.0`],
  [180_004, "ok", "PostgreSQL 18.4"],
  [MAJOR_MAX * 10_000, "ok", `PostgreSQL ${MAJOR_MAX}.0`],
  [NEWER, "fail", refusal],
])("server_version_num %i: %s", (serverVersion, verdict, message) => {
  const found = judge(serverVersion, false);
  expect([found?.verdict, found?.message]).toEqual([verdict, message]);
});

test("a newer server is a warning where it is allowed, and an old one is refused all the same", () => {
  expect(judge(NEWER, true)).toMatchObject({
    verdict: "warn",
    message: `PostgreSQL ${MAJOR_MAX + 1}.2 is newer than this Seawall knows: WAL is archived without reading its records`,
  });
  expect(judge(130_020, true)).toMatchObject({ verdict: "fail" });
  expect(judge(180_004, true)).toMatchObject({ verdict: "ok" });
});

describe("the hint of the refusal", () => {
  test("names the option where there is one", () => {
    expect(judge(NEWER, false)?.remedy).toContain("--allow-newer-server");
    expect(() => receivableMajor(NEWER, { allowsNewer: false })).toThrow(refusal);
    expect(receivableMajor(NEWER, { allowsNewer: true })).toBe(MAJOR_MAX + 1);
  });

  test.each([
    ["a base backup", () => knownMajor(NEWER)],
    ["the receiver beside a base backup", () => receivableMajor(NEWER, { allowsNewer: undefined })],
  ])("names none where none would help: %s", (_, refuse) => {
    expect(refuse).toThrow(expect.objectContaining({ code: "server-version", message: refusal }));
    expect(refuse).not.toThrow(expect.objectContaining({ hint: expect.stringContaining("--allow") as string }));
    expect(refuse).toThrow(expect.objectContaining({ hint: expect.stringContaining("docs/versions.md") as string }));
  });
});
