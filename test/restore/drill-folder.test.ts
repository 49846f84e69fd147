/** The scratch folder of a drill goes with it, even if a process still works in it. */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeDrillFolder } from "../../src/restore/drill/folder.ts";
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
      expect(ownerOf(join(folder.path, "drill.pid"))).toEqual([0, 0, "600"]);
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
