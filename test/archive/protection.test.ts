/** What protects data is read twice before anything is deleted: which disagreements stop an expiry, and which are none. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { backupDocumentKey, backupPartKey } from "../../src/archive/keys.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { confirmProtection, type Protection } from "../../src/archive/retention/protection.ts";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { backupDocument, emptyArchive, NEW, OLD, putBackupDocument } from "./retained.ts";

const MIDDLE = "20260202T000000Z-aaaaaaaa";

let store: MemoryStore;
let archive: Archive;
/** Folders that the store's listing of folders lacks. */
let hidden: string[];

beforeEach(async () => {
  store = new MemoryStore();
  hidden = [];
  const folders = store.listPrefixes.bind(store);
  store.listPrefixes = async (prefix, options) =>
    (await folders(prefix, options)).filter((folder) => !hidden.some((id) => folder.includes(id)));
  archive = await emptyArchive(store);
});

const documentOf = (id: string): BackupDocument => backupDocument({ id });
const error = new SeawallError("backup-corrupt", "cut");
const startedAt = new Date(0);
/** Nothing was read, and nothing is going. */
const nothing: Protection = {
  before: { backups: [] },
  now: { backups: [], leftovers: [], damaged: [] },
  pins: [],
  going: [],
};
const confirm = (change: Partial<Protection>): Promise<void> => confirmProtection(archive, { ...nothing, ...change });
const lied = (what: string): unknown =>
  expect.objectContaining({
    code: "store-lied",
    message: `nothing is deleted: a listing of ${store.description} lacks ${what}`,
  });

describe("a backup that was planned for and is listed no more", () => {
  const before = { backups: [documentOf(OLD)] };

  test("is really gone: no disagreement", async () => {
    await confirm({ before });
  });

  test("has its document still: nothing is deleted", async () => {
    await putBackupDocument(archive, { id: OLD });
    // Listed as a folder, so that only the look at the document can tell.
    await expect(confirm({ before, now: { ...nothing.now, leftovers: [{ id: OLD, startedAt }] } })).rejects.toEqual(
      lied(`backup ${OLD}`),
    );
  });

  test("is one of many that are gone: each is looked at", async () => {
    const ids = Array.from({ length: 20 }, (_, i) => `20260201T0000${String(10 + i)}Z-ffffffff`);
    const last = ids.at(-1) ?? "";
    await putBackupDocument(archive, { id: last });
    const leftovers = [{ id: last, startedAt }];
    const all = { backups: ids.map(documentOf) };
    await expect(confirm({ before: all, now: { ...nothing.now, leftovers } })).rejects.toEqual(lied(`backup ${last}`));
  });

  test("is listed as damaged: it is there, and no disagreement", async () => {
    await putBackupDocument(archive, { id: OLD });
    await confirm({ before, now: { ...nothing.now, damaged: [{ id: OLD, error }] } });
  });

  test("is listed as before: no disagreement", async () => {
    await putBackupDocument(archive, { id: OLD });
    await confirm({ before, now: { ...nothing.now, backups: [documentOf(OLD)] } });
  });
});

describe("a document whose backup the reading lacks", () => {
  test("and which the listing of folders lacks again: nothing is deleted", async () => {
    await putBackupDocument(archive, { id: NEW });
    hidden = [NEW];
    await expect(confirm({})).rejects.toEqual(lied(`backup ${NEW}`));
  });

  test("and which is listed when asked again has begun meanwhile", async () => {
    await putBackupDocument(archive, { id: NEW });
    await confirm({});
  });

  test.each<[string, Partial<Protection["now"]>]>([
    ["a backup", { backups: [documentOf(NEW)] }],
    ["a leftover", { leftovers: [{ id: NEW, startedAt }] }],
    ["damaged", { damaged: [{ id: NEW, error }] }],
  ])("is none where the reading has it as %s", async (_, read) => {
    await putBackupDocument(archive, { id: NEW });
    hidden = [NEW];
    await confirm({ now: { ...nothing.now, ...read } });
  });

  test("is none where only parts of it are stored, or objects that are not ours", async () => {
    await store.put(backupPartKey("main", NEW, "00001.tar.zst"), Buffer.from("x"));
    await store.put(`${backupDocumentKey("main", MIDDLE)}.old`, Buffer.from("x"));
    await store.put("main/backups/README", Buffer.from("x"));
    hidden = [NEW, MIDDLE];
    await confirm({});
  });

  test("is found behind another that the reading has", async () => {
    await putBackupDocument(archive, { id: OLD });
    await putBackupDocument(archive, { id: NEW });
    hidden = [NEW];
    const now = { ...nothing.now, backups: [documentOf(OLD)] };
    await expect(confirm({ now })).rejects.toEqual(lied(`backup ${NEW}`));
  });
});

describe("a backup that is about to be removed", () => {
  const pin = { backup: OLD, pinnedAt: "2026-03-02T10:15:00.000Z", expiresAt: null, note: "" };
  beforeEach(async () => {
    await putBackupDocument(archive, { id: OLD });
    await putBackupDocument(archive, { id: MIDDLE });
  });
  const now = { ...nothing.now, backups: [documentOf(OLD), documentOf(MIDDLE)] };

  test("and has a pin that the reading lacks: nothing is deleted", async () => {
    await putPin(archive, pin);
    await expect(confirm({ now, going: [MIDDLE, OLD] })).rejects.toEqual(lied(`the pin of backup ${OLD}`));
  });

  test("and has a pin that the reading has: the decision knew of it", async () => {
    await putPin(archive, pin);
    await confirm({ now, going: [OLD], pins: [pin] });
  });

  test("and has no pin, while another backup has one", async () => {
    await putPin(archive, pin);
    await confirm({ now, going: [MIDDLE] });
  });
});
