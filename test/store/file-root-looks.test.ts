/** The stat(2) of a directory store's path: operations share one, and one that hangs in a dead mount holds up none that come later. */
import type * as nodeFs from "node:fs";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const looks = vi.hoisted(() => ({ path: "", count: 0, hang: false }));

vi.mock("node:fs", async (importOriginal) => {
  const fs = await importOriginal<typeof nodeFs>();
  const counted = (path: string, options: object, done: (...args: unknown[]) => void): void => {
    if (path === looks.path) {
      looks.count++;
      if (looks.hang) return;
    }
    fs.stat(path, options, done);
  };
  return { ...fs, stat: counted as unknown as typeof nodeFs.stat };
});

let root: string;
beforeEach(() => (root = makeTempDir("looks")));
afterEach(() => removeTree(root));

test("a hundred reads at once share a few looks at the path", async () => {
  const store = new FileStore(root);
  await store.put("a", Buffer.from("1"));
  Object.assign(looks, { path: root, count: 0, hang: false });
  const found = await Promise.all(Array.from({ length: 100 }, () => store.get("a")));
  expect(found.every((object) => object?.body.length === 1)).toBe(true);
  expect(looks.count).toBeGreaterThanOrEqual(2);
  expect(looks.count).toBeLessThan(100);
  await store.close();
});

test("reads that come a second after a look hung in a dead mount do not wait for it", async () => {
  const store = new FileStore(root);
  await store.put("a", Buffer.from("1"));
  Object.assign(looks, { path: root, count: 0, hang: true });
  let isHeldUp = true;
  for (let i = 0; i < 2; i++) void store.get("a").finally(() => (isHeldUp = false));
  await vi.waitFor(() => expect(looks.count).toBe(1));
  looks.hang = false;
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now() + 1_001);
  expect((await store.get("a"))?.objectBytes).toBe(1);
  expect(isHeldUp).toBe(true);
  clock.mockRestore();
  await store.close();
});
