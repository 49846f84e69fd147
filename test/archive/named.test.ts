/** A backup is found by what a person writes: its id, a part of it, or `latest`. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { backupNamed, canNameBackup } from "../../src/archive/backups/named.ts";
import { backupPartKey } from "../../src/archive/keys.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { emptyArchive, putBackupDocument } from "./retained.ts";

const OLD = "20260203T040506Z-0badcafe";
const NEW = "20260204T040506Z-0bad0000";
const RUNNING = "20260205T040506Z-feedbee5";

let store: MemoryStore;
let archive: Archive;
beforeEach(async () => {
  store = new MemoryStore();
  archive = await emptyArchive(store);
  await putBackupDocument(archive, {
    id: OLD,
    startLsn: "0/200028",
    stopLsn: "0/200120",
    startedAt: "2026-02-03T04:05:06.000Z",
  });
  await putBackupDocument(archive, {
    id: NEW,
    startLsn: "0/300028",
    stopLsn: "0/300120",
    startedAt: "2026-02-04T04:05:06.000Z",
  });
  await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.from("x"));
});

test.each([
  ["its id", OLD, OLD],
  ["the beginning of its id", "20260203", OLD],
  ["its start", "20260204T040506Z", NEW],
  ["all but the end", "20260203T040506Z-0b", OLD],
  ["its random digits", "0badcafe", OLD],
  ["the first of its random digits", "0bad0", NEW],
  ["the first of the random digits of one that is not finished", "feed", RUNNING],
  ["latest: the newest that is finished", "latest", NEW],
  ["an id that no backup has", "20260203T040506Z-00000000", "20260203T040506Z-00000000"],
])("%s", async (_title, text, id) => {
  expect(canNameBackup(text)).toBe(true);
  expect(await backupNamed(archive, text)).toBe(id);
});

test.each([
  ["several", "2026", "usage", '"2026" fits 3 backups', `Write more of the id: ${RUNNING}, ${NEW}, ${OLD}.`],
  ["several by their random digits", "0bad", "usage", '"0bad" fits 2 backups', `Write more of the id: ${NEW}, ${OLD}.`],
  ["none", "1999", "backup-absent", 'there is no backup 1999 of "main" in memory:', undefined],
  ["nothing that could be one", "../x", "backup-absent", 'there is no backup ../x of "main" in memory:', undefined],
])("%s", async (_title, text, code, message, hint) => {
  await expect(backupNamed(archive, text)).rejects.toMatchObject({
    code,
    message,
    ...(hint === undefined ? {} : { hint }),
  });
});

test("of no finished backup latest is none", async () => {
  const empty = await emptyArchive(new MemoryStore());
  await expect(backupNamed(empty, "latest")).rejects.toMatchObject({ code: "backup-absent" });
});

describe("cannot name a backup", () => {
  test.each(["", "203", "../x", "Latest", "20260203T040506Z-0badcafe0", "x0badcafe", "2026-02-03"])("%j", (text) => {
    expect(canNameBackup(text)).toBe(false);
  });
});
