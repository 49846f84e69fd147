/** `check` accepts the versions that `receive` accepts. */
import { expect, test } from "vitest";
import { judgeServer } from "../../src/cli/check/findings.ts";
import { MAJOR_MAX, MAJOR_MIN } from "../../src/wal/format.ts";

test.each<[serverVersion: number, verdict: string, message: string]>([
  [130_020, "fail", "the server is PostgreSQL 13, older than Seawall supports"],
  [MAJOR_MIN * 10_000, "ok", `PostgreSQL ${MAJOR_MIN}.0`],
  [180_004, "ok", "PostgreSQL 18.4"],
  [MAJOR_MAX * 10_000, "ok", `PostgreSQL ${MAJOR_MAX}.0`],
  [(MAJOR_MAX + 1) * 10_000, "fail", `the server is PostgreSQL ${MAJOR_MAX + 1}, newer than this Seawall knows`],
])("server_version_num %i: %s", (serverVersion, verdict, message) => {
  const facts = {
    ...{ server: "db", user: "repl", applicationName: "seawall", tls: true, serverVersion, inRecovery: false },
    ...{ segmentSize: 1 << 24, settings: new Map<string, string>(), sql: undefined },
  };
  const memory = { bufferSegments: 3, bufferBytesMax: 1 << 28 };
  const wishes = { slot: "seawall", statusIntervalMs: 10_000, memory, hasSpool: false, memoryLimitBytes: 1 << 30 };
  const found = judgeServer(facts, wishes).find(({ name }) => name === "version");
  expect([found?.verdict, found?.message]).toEqual([verdict, message]);
});
