/** Whom the files of a directory store belong to, when root writes into the directory of another account. */
import { chownSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import { serverAccount } from "../harness/account.ts";

const isRoot = process.getuid?.() === 0;
const service = serverAccount() ?? { uid: -1, gid: -1 };

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "seawall-owner-"));
});

afterEach(() => rmSync(root, { recursive: true }));

describe.skipIf(!isRoot)("a check and a backup by root in the service's store", () => {
  test("leave nothing that the service cannot write afterwards", async () => {
    chownSync(root, service.uid, service.gid);
    await fill();
    expect(owners()).toEqual({
      main: [service.uid, service.gid],
      "main/wal": [service.uid, service.gid],
      "main/wal/a": [service.uid, service.gid],
      "main/wal/b": [service.uid, service.gid],
      "~store": [service.uid, service.gid],
      "~tmp": [service.uid, service.gid],
    });
  });

  test("leave the files to root where the directory is root's", async () => {
    await fill();
    expect(new Set(Object.values(owners()).flat())).toEqual(new Set([0]));
  });

  test("give away no directory that was there before", async () => {
    mkdirSync(join(root, "main"));
    writeFileSync(join(root, "main", "kept"), "");
    chownSync(root, service.uid, service.gid);
    await fill();
    expect(owners()).toMatchObject({ main: [0, 0], "main/wal": [service.uid, service.gid] });
  });

  test("give away no directory behind a link that stands in the store", async () => {
    const outside = join(root, "outside");
    mkdirSync(outside, 0o700);
    mkdirSync(join(root, "store"));
    symlinkSync(outside, join(root, "store", "main"));
    chownSync(join(root, "store"), service.uid, service.gid);
    await fill(join(root, "store"));
    expect(owners()).toMatchObject({ outside: [0, 0] });
  });
});

async function fill(path = root): Promise<void> {
  const store = new FileStore(path);
  try {
    expect(await store.put("main/probe/x", Buffer.from("x"))).toBe("created");
    await store.delete(["main/probe/x"]);
    expect(await store.put("main/wal/a", Buffer.from("a"))).toBe("created");
    expect(await store.put("main/wal/b", Buffer.from("b"))).toBe("created");
    expect(await store.put("main/wal/a", Buffer.from("a"))).toBe("exists");
  } finally {
    await store.close();
  }
}

/** Owner and group of everything below the root. */
function owners(): Readonly<Record<string, readonly [uid: number, gid: number]>> {
  const names = readdirSync(root, { recursive: true, encoding: "utf8" });
  return Object.fromEntries(
    names.map((name) => {
      const { uid, gid } = lstatSync(join(root, name));
      return [name, [uid, gid]];
    }),
  );
}
