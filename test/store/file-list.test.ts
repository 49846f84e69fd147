/** Walking directories in lots: as if all keys had been sorted at once, however small the lots and whatever happens meanwhile. */
import { objectsOf } from "../../src/store/store.ts";
import { randomInt } from "node:crypto";
import { mkdirSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { ListThreads } from "../../src/store/file/list-threads.ts";
import { eventLoopReader, type FolderReader, listFiles, listFolders } from "../../src/store/file/list.ts";

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "seawall-list-"));
});
afterEach(() => rm(root, { recursive: true }));

const create = (key: string): void => {
  mkdirSync(dirname(join(root, key)), { recursive: true });
  writeFileSync(join(root, key), key);
};
const request = (reader: FolderReader, namesMax: number, prefix = "", startAfter = "") => ({
  reader,
  root,
  prefix,
  startAfter,
  namesMax,
  signal: undefined,
  beforeNames: async () => undefined,
});
async function keysOf(listing: AsyncIterable<{ key: string }>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listing) keys.push(key);
  return keys;
}

const threads = new ListThreads(0);
afterAll(() => threads.close());

describe.each([
  { by: "by the event loop", reader: eventLoopReader },
  { by: "by threads", reader: threads },
])("$by", ({ reader }) => {
  test("random trees, prefixes and places to start after, in lots of 1 to 50 names", async () => {
    const seed = randomInt(2 ** 31);
    console.log(`seed ${seed}`);
    let state = seed;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const part = (): string => Array.from({ length: 1 + random(2) }, () => "+-.0=A_a"[random(8)]).join("");
    const words = Array.from({ length: 12 }, part).filter((word) => word !== "." && word !== "..");
    const keys = new Set<string>();
    for (let i = 0; i < 300; i += 1) {
      const key = Array.from({ length: 1 + random(4) }, () => words[random(words.length)]).join("/");
      // No key may be another one's folder.
      const clashes = [...keys].some(
        (other) => other === key || other.startsWith(`${key}/`) || key.startsWith(`${other}/`),
      );
      if (!clashes) keys.add(key);
    }
    keys.forEach(create);
    const sorted = [...keys].sort();
    for (let round = 0; round < 150; round += 1) {
      const someKey = (): string => sorted[random(sorted.length)] ?? "";
      const prefix = someKey().slice(0, random(4));
      const startAfter = random(3) === 0 ? "" : someKey().slice(0, random(12));
      const namesMax = 1 + random(50);
      const found = await keysOf(objectsOf(listFiles(request(reader, namesMax, prefix, startAfter))));
      const expected = sorted.filter((key) => key.startsWith(prefix) && key > startAfter);
      expect(found, `seed ${seed}: prefix ${prefix}, startAfter ${startAfter}, lots of ${namesMax}`).toEqual(expected);
      const folder = prefix.slice(0, prefix.lastIndexOf("/") + 1);
      const folders = sorted
        .filter((key) => key.startsWith(folder) && key.indexOf("/", folder.length) >= 0)
        .map((key) => key.slice(0, key.indexOf("/", folder.length) + 1));
      const below = { reader, root, prefix: folder, signal: undefined, namesMax };
      expect(await listFolders({ ...below, withObjects: false })).toEqual([...new Set(folders)].sort());
      const objects = sorted.filter((key) => key.startsWith(folder) && !key.includes("/", folder.length));
      expect(await listFolders({ ...below, withObjects: true })).toEqual([...new Set([...folders, ...objects])].sort());
    }
  });

  test("what is deleted or created beyond the lot that was read is seen as it is then", async () => {
    const keys = Array.from({ length: 3000 }, (_, i) => `big/${String(i * 2).padStart(6, "0")}`);
    keys.forEach(create);
    const seen: string[] = [];
    for await (const { key } of objectsOf(listFiles(request(reader, 500)))) {
      seen.push(key);
      if (seen.length !== 100) continue;
      await rm(join(root, keys[0] ?? ""));
      await rm(join(root, keys[2998] ?? ""));
      create("big/000001");
      create("big/005997");
    }
    expect(seen).toEqual([...keys.slice(0, 2998), "big/005997", keys[2999]]);
  });

  test("a folder that vanishes in the middle is an empty one", async () => {
    for (const key of ["a/1", "b/1", "c/1"]) create(key);
    const seen: string[] = [];
    for await (const { key } of objectsOf(listFiles(request(reader, 10)))) {
      seen.push(key);
      await rm(join(root, "b"), { recursive: true, force: true });
    }
    expect(seen).toEqual(["a/1", "c/1"]);
  });

  test("what takes the place of another object is seen when that is not", async () => {
    create("tail/00-10");
    let isFirst = true;
    // A merged chunk is stored, and the small one retired, between the reading of the names and of the sizes.
    const raced: FolderReader = {
      names: reader.names,
      infos: async (at, keys) => {
        if (isFirst) {
          create("tail/00-20");
          await rm(join(root, "tail/00-10"));
        }
        isFirst = false;
        return reader.infos(at, keys);
      },
    };
    expect(await keysOf(objectsOf(listFiles(request(raced, 10))))).toEqual(["tail/00-20"]);
  });

  test("a directory is made durable after its names are read, also when they are read again", async () => {
    create("a/1");
    const steps: string[] = [];
    let isFirst = true;
    const noted: FolderReader = {
      names: async (asked, signal) => {
        if (asked.folder === "a/") steps.push("names");
        return reader.names(asked, signal);
      },
      infos: async (at, keys) => {
        if (isFirst) {
          create("a/2");
          await rm(join(root, "a/1"));
        }
        isFirst = false;
        return reader.infos(at, keys);
      },
    };
    const beforeNames = async (folder: string): Promise<void> => void (folder === "a" && steps.push("durable"));
    const pages = listFiles({ ...request(noted, 10), beforeNames });
    expect(await keysOf(objectsOf(pages))).toEqual(["a/2"]);
    expect(steps).toEqual(["names", "durable", "names", "durable"]);
  });

  test("a folder in which files vanish all the time is listed all the same", async () => {
    for (let i = 0; i < 20; i += 1) create(`busy/${String(i).padStart(2, "0")}`);
    let next = 0;
    const raced: FolderReader = {
      names: reader.names,
      infos: async (at, keys) => {
        await rm(join(root, `busy/${String(next++).padStart(2, "0")}`), { force: true });
        return reader.infos(at, keys);
      },
    };
    const keys = await keysOf(objectsOf(listFiles(request(raced, 10))));
    expect(keys).toEqual(expect.arrayContaining(["busy/10", "busy/19"]));
    expect(keys).not.toContain("busy/00");
  });

  test("what is no file, and a folder that is not there, are passed over", async () => {
    create("a/1");
    mkdirSync(join(root, "a/2"));
    symlinkSync("1", join(root, "a/3"));
    expect(await keysOf(objectsOf(listFiles(request(reader, 10))))).toEqual(["a/1"]);
    const infos = await reader.infos(root, ["a/1", "a/2", "a/3", "a/4", "a/1/x"]);
    expect(infos.map((info) => info?.bytes)).toEqual([3, undefined, undefined, undefined, undefined]);
    for (const seconds of [1.0004, 1.0006, 1_700_000_000.0004, 1_700_000_000.0006]) {
      utimesSync(join(root, "a/1"), seconds, seconds);
      const [info] = await reader.infos(root, ["a/1"]);
      expect(info?.modifiedAt).toEqual(statSync(join(root, "a/1")).mtime);
    }
    const names = { root, prefix: "", startAfter: "", folder: "absent/", cursor: "", namesMax: 10 };
    expect(await reader.names(names, undefined)).toEqual([]);
  });

  test("what the operating system refuses keeps its code", async () => {
    const key = "x".repeat(300);
    await expect(reader.infos(root, [key])).rejects.toMatchObject({ code: "ENAMETOOLONG" });
    const names = { root, prefix: "", startAfter: "", folder: `${key}/`, cursor: "", namesMax: 10 };
    await expect(reader.names(names, undefined)).rejects.toMatchObject({ code: "ENAMETOOLONG" });
  });
});

test("a store that is closed ends its listing threads, and what they were asked", async () => {
  const own = new ListThreads(0);
  expect(await own.infos(root, ["a"])).toEqual([undefined]);
  const asked = own.infos(
    root,
    Array.from({ length: 20_000 }, (_, i) => `a/${i}`),
  );
  await Promise.all([expect(asked).rejects.toMatchObject({ code: "aborted" }), own.close()]);
  await expect(own.infos(root, ["a"])).rejects.toMatchObject({ code: "aborted" });
});

test("listing threads end when no listing asks any more, and begin again", async () => {
  create("a");
  const own = new ListThreads(0, 10);
  for (let round = 0; round < 2; round++) {
    expect(await own.infos(root, ["a"])).toMatchObject([{ key: "a", bytes: 1 }]);
    expect(own.size).toBe(1);
    await expect.poll(() => own.size, { timeout: 10_000 }).toBe(0);
  }
  await own.close();
});
