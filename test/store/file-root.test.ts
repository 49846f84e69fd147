/** A root whose path leads elsewhere: unmounted, renamed, retargeted, covered, copied, and the right one come back. */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import { unmountedAbove } from "../../src/store/file/mount-table.ts";
import { UNBUNDLED } from "../harness/build.ts";
import { canMount, inOwnMount } from "../harness/own-mount.ts";
import { all, pieces } from "./contract-bodies.ts";

const FILE_STORE = pathToFileURL(join(UNBUNDLED, "store", "file", "store.js")).href;
const text = (value: string): Uint8Array => Buffer.from(value);

let folder = "";
let root = "";
let store: FileStore;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "seawall-root-"));
  root = join(folder, "store");
  mkdirSync(root);
  store = new FileStore(root);
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

const everyCall = (of: FileStore): (() => Promise<unknown>)[] => [
  () => of.put("main/new", text("x")),
  () => of.putStream("main/streamed", pieces([text("x")])),
  () => of.get("main/old"),
  () => of.getStream("main/old"),
  () => of.head("main/old"),
  () => all(of.list("")),
  () => of.listPrefixes(""),
  () => of.delete(["main/old"]),
];

async function expectAway(of: FileStore): Promise<void> {
  for (const call of everyCall(of)) await expect(call()).rejects.toMatchObject({ code: "store-away", retryable: true });
}

/** Each makes the path lead to a directory that is not the store, and gives what makes it lead there again. */
const REPLACEMENTS: readonly { name: string; replace: () => () => void }[] = [
  {
    name: "renamed away",
    replace: () => {
      renameSync(root, `${root}.away`);
      return () => renameSync(`${root}.away`, root);
    },
  },
  {
    name: "replaced by an empty directory",
    replace: () => {
      renameSync(root, `${root}.away`);
      mkdirSync(root);
      return () => {
        rmSync(root, { recursive: true });
        renameSync(`${root}.away`, root);
      };
    },
  },
  {
    name: "replaced by a directory in which an earlier accident has left an archive of its own",
    replace: () => {
      renameSync(root, `${root}.away`);
      for (const made of ["main", "~tmp"]) mkdirSync(join(root, made), { recursive: true });
      writeFileSync(join(root, "main", "old"), "left");
      writeFileSync(join(root, "~store"), '{"version":1,"id":"another"}\n');
      return () => {
        expect(readFileSync(join(root, "main", "old"), "utf8")).toBe("left");
        expect(existsSync(join(root, "main", "new"))).toBe(false);
        rmSync(root, { recursive: true });
        renameSync(`${root}.away`, root);
      };
    },
  },
  {
    name: "replaced by a link to another directory",
    replace: () => {
      renameSync(root, `${root}.away`);
      mkdirSync(join(folder, "other"));
      symlinkSync(join(folder, "other"), root);
      return () => {
        rmSync(root);
        renameSync(`${root}.away`, root);
      };
    },
  },
  {
    name: "replaced by an older copy of itself",
    replace: () => {
      renameSync(root, `${root}.away`);
      cpSync(`${root}.away`, root, { recursive: true });
      rmSync(join(root, "main", "newest"));
      return () => {
        rmSync(root, { recursive: true });
        renameSync(`${root}.away`, root);
      };
    },
  },
];

describe("a receiver whose store was", () => {
  test.each(REPLACEMENTS)(
    "$name confirms nothing, says of nothing that it is absent, and goes on later",
    async ({ replace }) => {
      await store.put("main/old", text("x"));
      await store.put("main/newest", text("x"));
      const putBack = replace();
      await expectAway(store);
      putBack();
      expect(await store.put("main/new", text("x"))).toBe("created");
      expect((await all(store.list(""))).map(({ key }) => key)).toEqual(["main/new", "main/newest", "main/old"]);
    },
  );

  test("replaced while an object was on its way does not confirm the object", async () => {
    await store.put("main/old", text("x"));
    async function* replaced(): AsyncGenerator<Uint8Array> {
      yield text("x");
      renameSync(root, `${root}.away`);
      for (const made of ["main", "~tmp"]) mkdirSync(join(root, made), { recursive: true });
    }
    await expect(store.putStream("main/new", replaced())).rejects.toMatchObject({ code: "store-away" });
  });

  test("replaced while it was listed does not hear that the archive ends there", async () => {
    for (const key of ["a/1", "b/1", "c/1"]) await store.put(key, text("x"));
    const pages = store.listPages("")[Symbol.asyncIterator]();
    await pages.next();
    renameSync(root, `${root}.away`);
    mkdirSync(root);
    await expect(pages.next()).rejects.toMatchObject({ code: "store-away" });
  });

  test("replaced, and which is opened anew after a failure, does not begin in the empty directory", async () => {
    await store.put("main/old", text("x"));
    await store.close();
    renameSync(root, `${root}.away`);
    store = new FileStore(root);
    await expectAway(store);
    mkdirSync(root);
    await expectAway(store);
    rmSync(root, { recursive: true });
    renameSync(`${root}.away`, root);
    expect(await store.get("main/old")).toBeDefined();
  });

  test("mounted again with another device number is the same store", async () => {
    await store.put("main/old", text("x"));
    renameSync(root, `${root}.away`);
    // Another directory with all that the store holds: what a remount of NFS looks like.
    cpSync(`${root}.away`, root, { recursive: true });
    expect(await store.put("main/new", text("x"))).toBe("created");
    expect(existsSync(join(root, "main", "new"))).toBe(true);
    expect(existsSync(join(`${root}.away`, "main", "new"))).toBe(false);
  });

  test("not mounted yet, and looked at in vain, is used when it is there", async () => {
    const other = join(folder, "other");
    mkdirSync(other);
    const writer = new FileStore(other);
    await writer.put("main/old", text("x"));
    await writer.close();
    expect(await store.get("main/old")).toBeUndefined();
    rmSync(root, { recursive: true });
    renameSync(other, root);
    expect(await store.get("main/old")).toBeDefined();
    renameSync(root, `${root}.away`);
    mkdirSync(root);
    await expectAway(store);
  });

  test("made by an earlier version has no marker: what takes its place is never taken for it", async () => {
    mkdirSync(join(root, "main"));
    writeFileSync(join(root, "main", "old"), "x");
    expect(await store.get("main/old")).toBeDefined();
    expect(existsSync(join(root, "~store"))).toBe(false);
    renameSync(root, `${root}.away`);
    cpSync(`${root}.away`, root, { recursive: true });
    await expectAway(store);
    rmSync(root, { recursive: true });
    renameSync(`${root}.away`, root);
    await store.put("main/new", text("x"));
    expect(existsSync(join(root, "~store"))).toBe(true);
  });
});

test("two processes that write first at the same time agree on the marker", async () => {
  const others = Array.from({ length: 8 }, () => new FileStore(root));
  await Promise.all(others.map((other, at) => other.put(`main/${at}`, text("x"))));
  const marker = readFileSync(join(root, "~store"), "utf8");
  expect(JSON.parse(marker)).toEqual({ version: 1, id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string });
  renameSync(root, `${root}.away`);
  cpSync(`${root}.away`, root, { recursive: true });
  for (const other of others) {
    expect(await other.get("main/0")).toBeDefined();
    await other.close();
  }
});

// A mount takes root, or user namespaces for everybody; the renames above are the same fault without.
describe.skipIf(!canMount())("a real mount", () => {
  const script = (steps: string): string => `
    const { FileStore } = await import(${JSON.stringify(FILE_STORE)});
    const { execFileSync } = await import("node:child_process");
    const { mkdirSync, readdirSync, writeFileSync } = await import("node:fs");
    const root = ${JSON.stringify(root)};
    const store = new FileStore(root);
    const seen = [];
    const mount = (...args) => execFileSync("mount", args);
    const put = async (key) => seen.push(await store.put(key, Buffer.from("x")).catch((error) => error.code));
    ${steps}
    print(seen);
  `;

  test("that is taken away lazily under a store is missed before anything is confirmed, and welcome again", () => {
    const seen = inOwnMount(
      root,
      script(`
        await put("main/a");
        mkdirSync(${JSON.stringify(join(folder, "keep"))}, { recursive: true });
        mount("--bind", root, ${JSON.stringify(join(folder, "keep"))});
        execFileSync("umount", ["-l", root]);
        await put("main/b");
        seen.push(readdirSync(root));
        seen.push(await store.get("main/a").catch((error) => error.code));
        mount("--bind", ${JSON.stringify(join(folder, "keep"))}, root);
        await put("main/b");
        seen.push(readdirSync(root + "/main").sort());
        execFileSync("umount", [${JSON.stringify(join(folder, "keep"))}]);
      `),
    );
    expect(seen).toEqual(["created", "store-away", [], "store-away", "created", ["a", "b"]]);
  });

  test("that appears over a store is not taken for it", () => {
    const seen = inOwnMount(
      root,
      script(`
        await put("main/a");
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", root);
        await put("main/b");
        seen.push(readdirSync(root));
        execFileSync("umount", [root]);
        await put("main/b");
      `),
    );
    expect(seen).toEqual(["created", "store-away", [], "created"]);
  });

  test("that /etc/fstab names and that was not made yet is no store, and nothing is written below it", () => {
    writeFileSync(join(folder, "fstab"), `# backups\nnas:/backups ${root} nfs defaults 0 0\n`);
    const seen = inOwnMount(
      root,
      script(`
        execFileSync("umount", [root]);
        mount("--bind", ${JSON.stringify(join(folder, "fstab"))}, "/etc/fstab");
        await put("main/a");
        seen.push(readdirSync(root));
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", root);
        await put("main/a");
      `),
    );
    expect(seen).toEqual(["store-missing", [], "created"]);
  });
});

describe("the mount points of fstab without a mount", () => {
  const mountinfo = [
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "40 22 8:2 / /var rw,relatime shared:2 - ext4 /dev/sda2 rw",
    "41 22 0:50 / /mnt/my\\040disk rw - nfs nas:/x rw",
  ].join("\n");
  test.each([
    { name: "the path itself", fstab: "nas:/a /srv/a nfs defaults 0 0", path: "/srv/a", expected: ["/srv/a"] },
    { name: "a folder below it", fstab: "nas:/a\t/srv/a\tnfs", path: "/srv/a/b/c", expected: ["/srv/a"] },
    { name: "a slash at its end", fstab: "nas:/a /srv/a/ nfs", path: "/srv/a", expected: ["/srv/a"] },
    { name: "a name that only begins alike", fstab: "nas:/a /srv/a nfs", path: "/srv/ab", expected: [] },
    { name: "one that is mounted", fstab: "/dev/sda2 /var ext4", path: "/var/lib/x", expected: [] },
    { name: "one with a space, mounted", fstab: "nas:/x /mnt/my\\040disk nfs", path: "/mnt/my disk/x", expected: [] },
    { name: "the root and swap", fstab: "/dev/sda1 / ext4\n/dev/sda3 none swap sw", path: "/srv", expected: [] },
    { name: "a comment", fstab: "  # nas:/a /srv/a nfs", path: "/srv/a", expected: [] },
    { name: "an empty table", fstab: "\n\n", path: "/srv/a", expected: [] },
    {
      name: "two, one in the other",
      fstab: "nas:/b /srv/a/b nfs\nnas:/a /srv/a nfs",
      path: "/srv/a/b/c",
      expected: ["/srv/a", "/srv/a/b"],
    },
  ])("$name", ({ fstab, path, expected }) => {
    expect(unmountedAbove(path, { fstab, mountinfo })).toEqual(expected);
  });
});
