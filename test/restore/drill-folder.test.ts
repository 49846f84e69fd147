/** The scratch folder of a drill goes with it, even if a process still works in it. */
import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { makeDrillFolder } from "../../src/restore/drill/folder.ts";
import { ownIdentity, type ProcessIdentity } from "../../src/restore/process-identity.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

test("it is removed while a prefetcher, which has not noticed yet that its server is gone, still writes there", async () => {
  const parent = makeTempDir("scratch");
  try {
    for (let round = 0; round < 5; round++) {
      const folder = await makeDrillFolder(parent, 0, undefined);
      const ready = join(folder.dataDir, "pg_wal", ".seawall", "ready");
      mkdirSync(ready, { recursive: true });
      const until = performance.now() + 100;
      const writer = async (name: number): Promise<void> => {
        for (let i = 0; performance.now() < until; i++) {
          await writeFile(join(ready, `${name}-${i}`), "").catch(() => undefined);
        }
      };
      const writing = Promise.all([1, 2, 3].map(writer));
      await folder.remove();
      expect(existsSync(folder.path)).toBe(false);
      await writing;
    }
  } finally {
    removeTree(parent);
  }
});

test.skipIf(process.getuid?.() !== 0)(
  "root keeps the folder and the configuration; the server's account owns only what its server writes",
  async () => {
    const parent = makeTempDir("scratch");
    const owner = { uid: 65_534, gid: 65_534 };
    try {
      const folder = await makeDrillFolder(parent, 0, owner);
      const ownerOf = (path: string): [number, number, string] => {
        const { uid, gid, mode } = statSync(path);
        return [uid, gid, (mode & 0o7777).toString(8)];
      };
      expect(ownerOf(folder.path)).toEqual([0, owner.gid, "750"]);
      expect(ownerOf(join(folder.path, "drill.json"))).toEqual([0, 0, "600"]);
      expect(ownerOf(folder.configDir)).toEqual([0, 0, "755"]);
      expect(ownerOf(folder.createdTablespaces)).toEqual([owner.uid, owner.gid, "700"]);
      expect(ownerOf(folder.socketDir)).toEqual([owner.uid, owner.gid, "700"]);
      await folder.remove();
      expect(existsSync(folder.path)).toBe(false);
    } finally {
      removeTree(parent);
    }
  },
);

describe("a folder that is there already", () => {
  const ELEVEN_MINUTES_S = 11 * 60;
  /** A drill of another container, under a process ID that no process has here. */
  const elsewhere = async (): Promise<ProcessIdentity> => ({
    ...(await ownIdentity()),
    pid: 4_194_000,
    namespaces: "pid:[1]",
  });
  const here = async (pid: number): Promise<ProcessIdentity> => ({ ...(await ownIdentity()), pid });

  test.each([
    ["of a drill in another container that runs", elsewhere, 0, true],
    ["of a drill in another container that has been silent for eleven minutes", elsewhere, ELEVEN_MINUTES_S, false],
    ["of a drill in this container that ended", () => here(4_194_000), 0, false],
    ["of a drill in this container that runs and has been silent", () => here(process.pid), ELEVEN_MINUTES_S, true],
  ])("%s", async (_what, identity, silentS, stays) => {
    const parent = makeTempDir("scratch");
    try {
      const found = join(parent, "seawall-drill-before");
      mkdirSync(found);
      const ownerFile = join(found, "drill.json");
      writeFileSync(ownerFile, JSON.stringify(await identity()));
      const then = Date.now() / 1000 - silentS;
      utimesSync(ownerFile, then, then);
      const folder = await makeDrillFolder(parent, 0, undefined);
      expect(existsSync(found)).toBe(stays);
      await folder.remove();
    } finally {
      removeTree(parent);
    }
  });

  test("stays when its drill was told to keep it, whatever its age", async () => {
    const parent = makeTempDir("scratch");
    try {
      const kept = await makeDrillFolder(parent, 0, undefined);
      await kept.keep();
      utimesSync(kept.path, 0, 0);
      await (await makeDrillFolder(parent, 0, undefined)).remove();
      expect(existsSync(kept.configDir)).toBe(true);
    } finally {
      removeTree(parent);
    }
  });

  test("shows that its drill runs, every 30 seconds, until the folder is kept or removed", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const parent = makeTempDir("scratch");
    try {
      const folder = await makeDrillFolder(parent, 0, undefined);
      const ownerFile = join(folder.path, "drill.json");
      const size = (): number => readFileSync(ownerFile).length;
      const before = size();
      vi.advanceTimersByTime(60_000);
      await vi.waitFor(() => expect(size()).toBe(before + 2));
      expect(JSON.parse(readFileSync(ownerFile, "utf8"))).toEqual(await ownIdentity());
      await folder.remove();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
      removeTree(parent);
    }
  });
});
