/** What can go wrong with a directory, made to go wrong for real: missing, unwritable, full, foreign, killed writers. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import { serverAccount } from "../harness/account.ts";
import { UNBUNDLED } from "../harness/build.ts";
import { canMount, inOwnMount, runProgram } from "../harness/own-mount.ts";
import { all, collect, pieces } from "./contract-bodies.ts";

const MIB = 1024 * 1024;
const FILE_STORE = pathToFileURL(join(UNBUNDLED, "store", "file", "store.js")).href;

let root = "";
let store: FileStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "seawall-store-"));
  store = new FileStore(root);
});
afterEach(async () => {
  await store.close();
  await rm(root, { recursive: true, force: true });
});

const text = (value: string): Uint8Array => Buffer.from(value);
const storedNames = (): string[] => readdirSync(join(root, "~tmp"));

describe("a root that is not there", () => {
  test("is store-missing in every method, never an absent key, and is not created", async () => {
    const missing = new FileStore(join(root, "not", "there"));
    const calls: readonly (() => Promise<unknown>)[] = [
      () => missing.put("k", text("x")),
      () => missing.putStream("k", pieces([text("x")])),
      () => missing.get("k"),
      () => missing.getStream("k"),
      () => missing.head("k"),
      () => all(missing.list("")),
      () => missing.listPrefixes(""),
      () => missing.delete(["k"]),
    ];
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        code: "store-missing",
        message: expect.stringContaining(`file://${root}/not/there`) as string,
      });
    }
    expect(existsSync(join(root, "not"))).toBe(false);
  });

  test("that is a file", async () => {
    writeFileSync(join(root, "file"), "");
    const odd = new FileStore(join(root, "file"));
    await expect(odd.put("k", text("x"))).rejects.toMatchObject({ code: "store-unsupported" });
  });
});

describe("a root that refuses", () => {
  test("an unwritable directory is store-denied, reading still works, and nothing was written", async () => {
    await store.put("there", text("x"));
    await rm(join(root, "~tmp"), { recursive: true });
    await chmod(root, 0o555);
    await chmod(join(root, "there"), 0o444);
    const result = asAnotherUser(`
      const { FileStore } = await import(${JSON.stringify(FILE_STORE)});
      const store = new FileStore(${JSON.stringify(root)});
      becomeAnother();
      const body = (await store.get("there")).body.toString();
      const error = await store.put("k", Buffer.from("x")).catch((thrown) => thrown);
      print({ body, code: error.code, hint: error.hint });
    `);
    await chmod(root, 0o755);
    expect(result).toMatchObject({
      body: "x",
      code: "store-denied",
      hint: expect.stringContaining("permission") as string,
    });
    expect(readdirSync(root).sort()).toEqual(["there", "~store"]);
  });

  test("an unreadable object is store-denied, never absent", async () => {
    await store.put("secret", text("x"));
    await chmod(root, 0o755);
    await chmod(join(root, "secret"), 0o000);
    const result = asAnotherUser(`
      const { FileStore } = await import(${JSON.stringify(FILE_STORE)});
      const store = new FileStore(${JSON.stringify(root)});
      becomeAnother();
      const error = await store.get("secret").catch((thrown) => thrown);
      print({ code: error?.code });
    `);
    expect(result).toEqual({ code: "store-denied" });
  });

  // A file system of its own takes root, or user namespaces for everybody: where there is neither, the table of errors in
  // file-errors.test.ts is what remains.
  test.skipIf(!canMount())("a full file system is store-full, leaves nothing half, and recovers", () => {
    const result = inOwnMount(
      root,
      `
      const { FileStore } = await import(${JSON.stringify(FILE_STORE)});
      const store = new FileStore(${JSON.stringify(root)});
      const seen = [];
      const attempt = async (key, bytes) =>
        seen.push([key, await store.put(key, Buffer.alloc(bytes, 7)).catch((thrown) => thrown.code)]);
      await attempt("a/fits", 1 << 20);
      await attempt("a/too-large", 8 << 20);
      await attempt("b/fits-too", 1 << 20);
      await store.delete(["a/fits"]);
      await attempt("a/too-large", 2 << 20);
      const keys = [];
      for await (const { key, bytes } of store.list("")) keys.push([key, bytes]);
      const { readdirSync } = await import("node:fs");
      print({ seen, keys, left: readdirSync(${JSON.stringify(join(root, "~tmp"))}) });
    `,
    );
    expect(result).toEqual({
      seen: [
        ["a/fits", "created"],
        ["a/too-large", "store-full"],
        ["b/fits-too", "created"],
        ["a/too-large", "created"],
      ],
      keys: [
        ["a/too-large", 2 * MIB],
        ["b/fits-too", MIB],
      ],
      left: [],
    });
  });
});

describe("things in the directory that are not ours", () => {
  test("are passed over by listings and left alone", async () => {
    await store.put("a/ours", text("x"));
    writeFileSync(join(root, "not a key"), "");
    mkdirSync(join(root, "lost+found"));
    writeFileSync(join(root, "lost+found", "inode"), "");
    mkdirSync(join(root, "empty", "deeper"), { recursive: true });
    symlinkSync(join(root, "a"), join(root, "link"));
    execFileSync("mkfifo", [join(root, "a", "pipe")]);
    expect((await all(store.list(""))).map(({ key }) => key)).toEqual(["a/ours"]);
    expect(await store.listPrefixes("")).toEqual(["a/"]);
    expect(await store.head("a/pipe")).toBeUndefined();
    expect(await store.get("a/pipe")).toBeUndefined();
  });

  test("a directory where an object should be is neither absent to a put nor an object to a get", async () => {
    await store.put("a/b", text("x"));
    await expect(store.put("a", text("x"))).rejects.toMatchObject({ code: "store-unsupported" });
    expect(await store.get("a")).toBeUndefined();
    await expect(store.put("a/b/c", text("x"))).rejects.toMatchObject({ code: "store-unsupported" });
    expect(storedNames()).toEqual([]);
  });
});

test("a folder that another receiver emptied and removed is made again, at every depth, by every put", async () => {
  const other = new FileStore(root);
  await store.put("main/tail/1/a", text("x"));
  for (let round = 0; round < 25; round += 1) {
    // This store still takes main/tail for granted.
    await other.delete([round === 0 ? "main/tail/1/a" : `main/tail/${round}/b`]);
    expect(existsSync(join(root, "main"))).toBe(false);
    expect(await store.put(`main/tail/${round + 1}/b`, text("x"))).toBe("created");
  }
  await other.close();
});

describe("temporary files", () => {
  test("none is left by puts that succeed, that lose a race, or that fail", async () => {
    await Promise.all(Array.from({ length: 16 }, () => store.put("race", text("x"))));
    await expect(store.putStream("failed", failing())).rejects.toThrow("the source broke");
    await expect(store.put("k", text("x"), { signal: AbortSignal.abort() })).rejects.toThrow();
    expect(storedNames()).toEqual([]);
  });

  test("those of dead processes are removed when they are old, and only then", async () => {
    await store.put("k", text("x"));
    for (const [name, ageMinutes] of [
      ["old", 61],
      ["young", 59],
    ] as const) {
      const path = join(root, "~tmp", name);
      writeFileSync(path, "left");
      const time = Date.now() / 1000 - ageMinutes * 60;
      utimesSync(path, time, time);
    }
    const next = new FileStore(root);
    expect(await next.get("k")).toBeDefined();
    expect(storedNames()).toEqual(["old", "young"]);
    await next.put("l", text("x"));
    expect(storedNames()).toEqual(["young"]);
    await next.close();
  });

  test("one that an operator cleans away in the middle of a put costs that put, and the next one succeeds", async () => {
    async function* cleaned(): AsyncGenerator<Uint8Array> {
      yield text("x");
      for (const name of storedNames()) await rm(join(root, "~tmp", name));
    }
    await expect(store.putStream("k", cleaned())).rejects.toMatchObject({ code: "store-unavailable" });
    expect(await store.put("k", text("x"))).toBe("created");
  });
});

test(
  "a writer that is killed at random moments leaves whole objects, and every one it was told is stored",
  { timeout: 240_000 },
  async () => {
    const program = `
    const { FileStore } = await import(${JSON.stringify(FILE_STORE)});
    const store = new FileStore(${JSON.stringify(root)});
    const run = process.argv[1];
    await Promise.all([0, 1, 2].map(async (lane) => {
      for (let i = 0; ; i += 1) {
        const key = "run-" + run + "/" + lane + "-" + i;
        const body = Buffer.alloc(1 + (i % 5) * 300_000, key);
        const stream = (async function* () { for (let at = 0; at < body.length; at += 65536) yield body.subarray(at, at + 65536); })();
        await (lane === 0 ? store.putStream(key, stream) : store.put(key, body));
        process.stdout.write(key + " " + body.length + "\\n");
      }
    }));
  `;
    let confirmed = 0;
    for (let round = 0; round < 12; round += 1) {
      const told = new Map<string, number>();
      const child = spawn(process.execPath, ["--input-type=module", "-e", program, String(round)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const closed = once(child, "close");
      const lines = createInterface({ input: child.stdout });
      lines.on("line", (line) => {
        const [key = "", bytes = ""] = line.split(" ");
        told.set(key, Number(bytes));
        // Some time after a few confirmations: in the middle of whatever it does then.
        if (told.size === 1 + (round % 5)) setTimeout(() => child.kill("SIGKILL"), Math.random() * 15);
      });
      await closed;
      for await (const { key, bytes } of store.list(`run-${round}/`)) {
        const body = (await store.get(key))?.body ?? new Uint8Array(0);
        expect(body.length).toBe(bytes);
        expect(Buffer.compare(body, Buffer.alloc(bytes, key)), key).toBe(0);
        const [, index = ""] = key.split("-").slice(1);
        expect(bytes).toBe(1 + (Number(index) % 5) * 300_000);
        told.delete(key);
        confirmed += 1;
      }
      expect([...told.keys()], "confirmed but not there").toEqual([]);
      await store.delete((await all(store.list(`run-${round}/`))).map(({ key }) => key));
    }
    expect(confirmed).toBeGreaterThan(12);
  },
);

test("a stream that is read while its object is deleted is read to its end", async () => {
  const body = Buffer.alloc(3 * MIB, "tide");
  await store.put("k", body);
  const got = await store.getStream("k");
  await store.delete(["k"]);
  expect(Buffer.compare(await collect(got?.body), body)).toBe(0);
});

async function* failing(): AsyncGenerator<Uint8Array> {
  yield text("x");
  throw new TypeError("the source broke");
}

/** Runs a program that calls becomeAnother() once it has imported what it needs, and print() with its result. */
function asAnotherUser(program: string): unknown {
  const account = serverAccount();
  const drop =
    account === undefined
      ? ""
      : `process.setgroups([]); process.setgid(${account.gid}); process.setuid(${account.uid});`;
  return runProgram([process.execPath], `const becomeAnother = () => { ${drop} };\n${program}`);
}
