/** A receiver that is told to stop while its store says nothing: it ends, whichever request it waits for. */
import { expect, test } from "vitest";
import { MemoryStore } from "../harness/memory-store.ts";
import { lsnOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { filled, mainData, MIB, SYSTEM_ID, WalWriter } from "../wal/wal-writer.ts";
import { receive } from "./receiving.ts";

/** A segment and a half. */
const RECORDS = 30;
/** No start of a receiver sends so many requests. */
const REQUESTS_MAX = 60;

test("a receiver whose store falls silent at any request ends when it is told to stop", async () => {
  const writer = new WalWriter({ start: lsnOf(BigInt(MIB)) });
  for (let i = 0; i < RECORDS; i++) writer.write({ data: mainData(filled(60_000)) });
  const { bytes, position, start } = writer;
  await using sender = await ScriptedWalsender.start({
    systemIdentifier: SYSTEM_ID,
    timeline: 1,
    xlogpos: position,
    slots: { seawall: { restartLsn: start, restartTimeline: 1 } },
    settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
    stream: async (stream) => stream.sendWal(stream.startLsn, bytes.subarray(Number(stream.startLsn - start))),
  });
  const store = new FaultyStore(new MemoryStore());
  const options = { createSlot: false, shutdownTimeoutMs: 200 };
  {
    await using receiver = receive(sender, store, options);
    await receiver.stored(position);
    await receiver.stop();
  }
  for (let request = 1; ; request++) {
    expect(request).toBeLessThan(REQUESTS_MAX);
    const silence = store.failpoint({ fault: "stall", nth: request, times: Number.POSITIVE_INFINITY });
    await using receiver = receive(sender, store, options);
    const first = await Promise.race([silence.reached.then(() => "silent"), receiver.stored(position)]);
    const ending = await receiver.stop().catch((error: unknown) => error);
    if (ending !== undefined) expect(ending).toMatchObject({ code: "shutdown-incomplete" });
    if (first !== "silent") return;
    silence.remove();
  }
}, 300_000);
