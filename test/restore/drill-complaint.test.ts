/** The complaint that a drill takes from the log of its server. */
import { expect, test } from "vitest";
import { complaintIn } from "../../src/restore/drill/server.ts";

const LOG = [
  "2026-01-01 00:00:00 UTC [7] LOG:  starting archive recovery",
  "error: get main/wal/00000002.history: access denied [store-denied]",
  "hint: allow s3:GetObject",
  '2026-01-01 00:00:01 UTC [7] FATAL:  could not restore file "00000002.history" from archive: child process exited with exit code 203',
  "2026-01-01 00:00:01 UTC [8] FATAL:  the database system is starting up",
];

test.each<[name: string, lines: string[], text: string, code: string | undefined]>([
  [
    "the failure of a restore_command is told once, and its code apart",
    LOG,
    'could not restore file "00000002.history" from archive: child process exited with exit code 203; get main/wal/00000002.history: access denied',
    "store-denied",
  ],
  ["an error without a code has none", ["error: wrong usage"], "wrong usage", undefined],
  ["a server that only complains is quoted", ["x PANIC:  no space left", "y LOG:  bye"], "no space left", undefined],
  ["without a complaint the last line is quoted", ["x LOG:  hello", "y LOG:  bye"], "y LOG:  bye", undefined],
])("%s", (_name, lines, text, code) => {
  expect(complaintIn(`${lines.join("\n")}\n`)).toEqual({ text, code });
});
