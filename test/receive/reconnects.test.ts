/** A server that drops its walsenders thousands of times: what each connection used is given back, on every Node.js. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lsnOf } from "../../src/wal/lsn.ts";
import { startReceiver } from "../campaigns/receiver-process.ts";
import { report } from "../campaigns/campaign.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { filled, mainData, MIB, SYSTEM_ID, WalWriter } from "../wal/wal-writer.ts";

const RECONNECTS = 2_000;
/** By then every code path is compiled, every pool has its size, and V8 of Node.js 24 has let its young generation grow. */
const WARM = 1_000;
const GROWTH_MIB_MAX = 40;
/** Promise 7. Node.js 24 keeps 60 to 90 MiB more for the young generation than 20 and 22 do. */
const RESIDENT_MIB_MAX = 256;
/** Two minutes on an idle machine; what is measured is memory, not time. */
const LIMIT_MS = 900_000;

test.runIf(process.platform === "linux")(
  `${RECONNECTS} reconnects leave no memory and no listeners behind`,
  async () => {
    const writer = new WalWriter({ start: lsnOf(BigInt(MIB)) });
    while (writer.position < writer.start + 128n * 1024n) writer.write({ data: mainData(filled(4000)) });
    const { bytes, position } = writer;
    const folder = makeTempDir("reconnects");
    mkdirSync(join(folder, "store"));
    await using sender = await ScriptedWalsender.start({
      systemIdentifier: SYSTEM_ID,
      timeline: 1,
      xlogpos: position,
      settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
      stream: async (stream) => {
        await stream.sendWal(stream.startLsn, bytes);
        await stream.keepalive({ replyRequested: true });
        await stream.nextStatus(({ flush }) => flush >= position);
        stream.cut();
      },
    });
    // The shortest pauses between attempts: the server, not the clock, sets the pace.
    const nodeArgs = ["--import", "data:text/javascript,Math.random=()=>0"];
    await using receiver = startReceiver({
      dsn: sender.dsn,
      storeUrl: `file://${join(folder, "store")}`,
      flags: ["--synchronous", "--no-slot", "--log-level", "error"],
      nodeArgs,
    });
    const afterReconnects = async (count: number): Promise<number> => {
      const stream = sender.stream(count);
      const ended = receiver.ended(LIMIT_MS).then(() => Promise.reject(new Error(`it ended:\n${receiver.stderr}`)));
      await Promise.race([stream, ended]);
      return (receiver.rssBytes() ?? NaN) / MIB;
    };
    const warm = await afterReconnects(WARM);
    const last = await afterReconnects(RECONNECTS);
    report("reconnects", { node: process.version, warmMiB: Math.round(warm), lastMiB: Math.round(last) });
    expect(receiver.stderr).not.toContain("MaxListenersExceededWarning");
    expect(last).toBeLessThan(RESIDENT_MIB_MAX);
    expect(last - warm).toBeLessThan(GROWTH_MIB_MAX);
    sender.rethrow();
    expect((await receiver.end("SIGTERM")).code, receiver.stderr).toBe(0);
    removeTree(folder);
  },
  LIMIT_MS,
);
