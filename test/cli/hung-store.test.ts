/** A directory store whose file system stops answering: calls into it never return, and hold the thread that made them. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lsnOf } from "../../src/wal/lsn.ts";
import { startReceiver } from "../campaigns/receiver-process.ts";
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
