/** A directory store whose file system stops answering: calls into it never return, and hold the thread that made them. */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lsnOf } from "../../src/wal/lsn.ts";
import { startReceiver } from "../campaigns/receiver-process.ts";
import { ROOT } from "../harness/build.ts";
import { type CliProcess, startCli } from "../harness/process.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { filled, mainData, MIB, SYSTEM_ID, WalWriter } from "../wal/wal-writer.ts";

/** In the receiver: naming a chunk opens a pipe instead that has no other end, which takes a thread for good. */
function hangingChunks(pipe: string): string {
  const source = `
    import fs from "node:fs/promises";
    import { syncBuiltinESMExports } from "node:module";
    const { link, open } = fs;
    fs.link = (from, to) => (String(to).includes("/tail/") ? open(${JSON.stringify(pipe)}, "r") : link(from, to));
    syncBuiltinESMExports();`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

test("a receiver that is told to stop ends although a call into its store never returns", async () => {
  const writer = new WalWriter({ start: lsnOf(BigInt(MIB)) });
  writer.write({ data: mainData(filled(4000)) });
  const { bytes, position, start } = writer;
  const folder = makeTempDir("hung-store");
  mkdirSync(join(folder, "store"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
  await using sender = await ScriptedWalsender.start({
    systemIdentifier: SYSTEM_ID,
    timeline: 1,
    xlogpos: start,
    settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
    stream: async (stream) => stream.sendWal(stream.startLsn, bytes),
  });
  await using receiver = startReceiver({
    dsn: sender.dsn,
    storeUrl: `file://${join(folder, "store")}`,
    flags: ["--synchronous", "--no-slot", "--shutdown-timeout", "1s"],
    nodeArgs: ["--import", hangingChunks(join(folder, "pipe"))],
  });
  const stream = await sender.stream(0);
  await stream.nextStatus(({ write }) => write >= position);
  // Throws when the receiver is still there after a minute.
  expect(await receiver.end("SIGTERM")).toEqual({ code: null, signal: "SIGKILL" });
  expect(receiver.stderr).toContain("did not end within 11 s of being told to stop");
  expect(stream.flush).toBeLessThanOrEqual(start);
  removeTree(folder);
});

/** A thread of the command is within open(2) of a pipe that has no other end (proc(5): wchan). */
function isHanging({ pid = 0 }: CliProcess): boolean {
  if (!existsSync(`/proc/${pid}/task`)) return false;
  return readdirSync(`/proc/${pid}/task`).some((task) => {
    const wchan = `/proc/${pid}/task/${task}/wchan`;
    return existsSync(wchan) && readFileSync(wchan, "utf8") === "wait_for_partner";
  });
}

interface Row {
  readonly name: string;
  /** The end of the path whose opening never returns. */
  readonly file: string;
  readonly args: readonly string[];
}

const BACKUP = "20250306T080001Z-d652b08a";
const SEGMENT = "000000020000000000000012";

describe.runIf(process.platform === "linux")("a command whose read in a directory store never returns", () => {
  let folder: string;
  beforeAll(() => {
    folder = makeTempDir("hung-commands");
  });
  afterAll(() => removeTree(folder));

  /** Makes a copy of the kept archive in `store`, and what has a command hang when it opens this file of it. */
  function hungAt(store: string, file: string): readonly string[] {
    cpSync(join(ROOT, "test/fixtures/archive"), join(store, "archive"), { recursive: true });
    const pipe = join(store, "pipe");
    execFileSync("mkfifo", [pipe]);
    const source = `
      import fs from "node:fs";
      import promises from "node:fs/promises";
      import { syncBuiltinESMExports } from "node:module";
      const isHung = (path) => String(path).endsWith(${JSON.stringify(file)});
      const open = { sync: fs.openSync, back: fs.open, promise: promises.open };
      fs.open = (path, ...rest) => (isHung(path) ? open.back(${JSON.stringify(pipe)}, "r", rest.at(-1)) : open.back(path, ...rest));
      fs.openSync = (path, ...rest) => (isHung(path) ? open.sync(${JSON.stringify(pipe)}, "r") : open.sync(path, ...rest));
      promises.open = (path, ...rest) => (isHung(path) ? open.promise(${JSON.stringify(pipe)}, "r") : open.promise(path, ...rest));
      const { readFile } = promises;
      promises.readFile = (path, ...rest) => (isHung(path) ? open.promise(${JSON.stringify(pipe)}, "r") : readFile(path, ...rest));
      syncBuiltinESMExports();`;
    return ["--import", `data:text/javascript,${encodeURIComponent(source)}`];
  }

  const identity = "main/cluster.json";
  const document = `main/backups/${BACKUP}/backup.json`;
  const segment = `main/wal/00000002/00000000/${SEGMENT}.zst`;
  const rows: readonly Row[] = [
    { name: "list, at once", file: identity, args: ["list"] },
    { name: "list, in a backup", file: document, args: ["list"] },
    { name: "show", file: document, args: ["show", BACKUP] },
    { name: "verify, in a segment", file: segment, args: ["verify"] },
    { name: "verify --deep, in a thread of its own", file: segment, args: ["verify", "--deep"] },
    {
      name: "verify --deep, in a part",
      file: `main/backups/${BACKUP}/parts/00001.tar.zst`,
      args: ["verify", "--deep"],
    },
    { name: "pin", file: identity, args: ["pin", BACKUP] },
    { name: "unpin", file: identity, args: ["unpin", BACKUP] },
    { name: "expire", file: document, args: ["expire", "--keep-full", "1"] },
    { name: "delete", file: document, args: ["delete", BACKUP] },
    { name: "restore, in its plan", file: document, args: ["restore", "--target-dir", "TARGET"] },
    {
      name: "restore, in a part",
      file: `main/backups/${BACKUP}/parts/00002.tar.zst`,
      args: ["restore", "--target-dir", "TARGET"],
    },
    { name: "status", file: identity, args: ["status", "--listen", "off", "--dsn", "host=127.0.0.1 port=1"] },
    { name: "check", file: identity, args: ["check", "--dsn", "host=127.0.0.1 port=1"] },
    { name: "wal-push, in the server's directory", file: `/${SEGMENT}`, args: ["wal-push", "WALFILE"] },
    { name: "import", file: identity, args: ["import", join(ROOT, "test/fixtures/archive/main/wal")] },
  ];

  /** Starts the command, and waits until it hangs. */
  async function startHung({ name, file, args }: Row): Promise<CliProcess> {
    const store = join(folder, name.replaceAll(/\W+/g, "-"));
    const nodeArgs = hungAt(store, file);
    const walFile = join(store, SEGMENT);
    execFileSync("cp", [join(ROOT, "test/fixtures/archive", segment), walFile]);
    const filled = args.map((arg) => (arg === "TARGET" ? join(store, "target") : arg === "WALFILE" ? walFile : arg));
    const command = startCli([...filled, "--store", `file://${store}/archive`], { nodeArgs });
    for (;;) {
      if (!command.running) throw new Error(`it ended before it read ${file}:\n${command.stdout}${command.stderr}`);
      if (isHanging(command)) return command;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // Each command waits out its own shutdown timeout, so they wait side by side.
  test.concurrent.each(rows)("ends all the same after SIGTERM: $name", async (row) => {
    await using command = await startHung(row);
    // Throws when the command is still there after a minute.
    expect(await command.end("SIGTERM")).toEqual({ code: null, signal: "SIGKILL" });
  });

  // For these no other end comes after a signal: leaving would do harm.
  test.each([
    { name: "wal-fetch", file: segment, args: ["wal-fetch", SEGMENT, "TARGET"] },
    { name: "drill", file: document, args: ["drill", "--scratch-dir", "."] },
  ])("ends at a second signal: $name", async (row) => {
    await using command = await startHung(row);
    command.signal("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await command.end("SIGTERM")).toEqual({ code: null, signal: "SIGKILL" });
  });
});
