/** Repacking tar into parts: each extracts alone, whatever the order in which its entries came. */
import { describe, expect, test } from "vitest";
import type { BackupPart } from "../../src/archive/backups/document.ts";
import { Parts } from "../../src/archive/backups/parts.ts";
import { withUploads } from "../../src/archive/backups/uploads.ts";
import { backupPartKey } from "../../src/archive/keys.ts";
import { Codec } from "../../src/codec/codec.ts";
import { FrameSlots } from "../../src/codec/frame-slots.ts";
import { CodecPool } from "../../src/codec/pool.ts";
import { type TarEntryType, type TarHeader, TAR_BLOCK_BYTES } from "../../src/codec/tar.ts";
import { TarReader } from "../../src/codec/tar-reader.ts";
import { recipientsOf, runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newArchive, SIZE } from "./tail-archive.ts";

const ID = "20261130T120000Z-00000000";

type Entry = readonly [type: TarEntryType, path: string, content?: string];

/** The entries of each part, in its order; each tablespace has a list of its own. */
async function repack(partBytes: number, ...archives: readonly (readonly Entry[])[]): Promise<string[][]> {
  const store = new MemoryStore();
  await using pool = disposable(new CodecPool({ threads: 1 }));
  const archive = newArchive(store, SIZE, new Codec({ pool, ownsPool: false, recipients: await recipientsOf() }));
  const { signal } = new AbortController();
  const options = { store, signal, shutdownTimeoutMs: 1_000, cancelled: "cancelled", onLeft: () => undefined };
  const facts = await withUploads(options, async (uploads, broken): Promise<BackupPart[]> => {
    const slots = new FrameSlots(3);
    const parts = new Parts({ archive, backupId: ID, uploads, slots, signal: broken.signal, partBytes });
    for (const [index, entries] of archives.entries()) {
      await parts.beginArchive(index === archives.length - 1 ? null : 16_400 + index);
      for (const [type, path, content = ""] of entries) {
        const bytes = Buffer.from(content);
        await parts.beginEntry(headerOf(type, path, bytes.length));
        await parts.data(bytes);
        await parts.endEntry();
      }
      await parts.endArchive();
    }
    await uploads.settle();
    return parts.facts();
  });
  const found: string[][] = [];
  for (const part of facts) {
    const held = await entriesOf((await store.get(backupPartKey(archive.cluster, ID, part.name)))?.body);
    expect(held.filter((entry) => entry.startsWith("file"))).toHaveLength(part.files);
    found.push(held);
  }
  return found;
}

function disposable(pool: CodecPool): CodecPool & AsyncDisposable {
  return Object.assign(pool, { [Symbol.asyncDispose]: async () => pool.close() });
}

function headerOf(type: TarEntryType, path: string, size: number): TarHeader {
  const link = type === "symlink" ? { linkTarget: "/srv/x" } : {};
  return { path, type, size, mode: 0o600, uid: 1, gid: 1, mtime: 1_700_000_000, ...link };
}

/** Entries with their content, as `tar` would extract them. */
async function entriesOf(stored: Uint8Array | undefined): Promise<string[]> {
  const found: string[] = [];
  const tar = new TarReader({
    onEntry: ({ type, path }) => found.push(`${type} ${path}`),
    onData: (view) => found.push(`${found.pop() ?? ""} ${Buffer.from(view).toString()}`),
    onEntryEnd: () => undefined,
  });
  const reader = runCodec.startReading("frames", "part");
  await reader.push(stored ?? Buffer.alloc(0), (view) => tar.push(view));
  await reader.end((view) => tar.push(view));
  tar.end();
  return found;
}

describe("a part holds each directory before the files in it", () => {
  test("one that was announced before them, once", async () => {
    expect(
      await repack(1 << 20, [
        ["directory", "base"],
        ["directory", "base/5"],
        ["file", "base/5/1", "one"],
        ["file", "base/5/2", "two"],
        ["file", "PG_VERSION", "15"],
        ["file", "base/5/3"],
      ]),
    ).toEqual([
      [
        "directory base",
        "directory base/5",
        "file base/5/1 one",
        "file base/5/2 two",
        "file PG_VERSION 15",
        "file base/5/3",
      ],
    ]);
  });

  test("one that comes behind a file in it, where it came", async () => {
    expect(
      await repack(1 << 20, [
        ["file", "base/5/1", "one"],
        ["directory", "base/5"],
        ["directory", "base"],
        ["file", "base/5/2", "two"],
      ]),
    ).toEqual([["file base/5/1 one", "directory base/5", "directory base", "file base/5/2 two"]]);
  });

  test("one that an earlier part has, again, with those above it", async () => {
    // A part takes two files with their headers and directories: 4 + 2 × 2 blocks.
    const one = "x".repeat(TAR_BLOCK_BYTES);
    expect(
      await repack(6 * TAR_BLOCK_BYTES, [
        ["directory", "base"],
        ["directory", "base/5"],
        ["file", "base/5/1", one],
        ["file", "base/5/2", one],
        ["file", "base/5/3", one],
      ]),
    ).toEqual([
      ["directory base", "directory base/5", `file base/5/1 ${one}`, `file base/5/2 ${one}`],
      ["directory base", "directory base/5", `file base/5/3 ${one}`],
    ]);
  });

  test("one of a large file, which has a part to itself", async () => {
    const large = "y".repeat(6 * TAR_BLOCK_BYTES);
    expect(
      await repack(6 * TAR_BLOCK_BYTES, [
        ["directory", "base"],
        ["file", "base/1", "one"],
        ["file", "base/2", large],
        ["file", "base/3"],
      ]),
    ).toEqual([
      ["directory base", "file base/1 one", "file base/3"],
      ["directory base", `file base/2 ${large}`],
    ]);
  });

  test("one of another tablespace is not repeated", async () => {
    expect(
      await repack(
        1 << 20,
        [
          ["directory", "PG_15"],
          ["file", "PG_15/1", "one"],
        ],
        [
          ["file", "PG_15/1", "two"],
          ["symlink", "pg_tblspc/16400"],
        ],
      ),
    ).toEqual([
      ["directory PG_15", "file PG_15/1 one"],
      ["file PG_15/1 two", "symlink pg_tblspc/16400"],
    ]);
  });
});
