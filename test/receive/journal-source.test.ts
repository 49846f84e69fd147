/** The journal as a server: a reader that has all is given what comes next in few pieces. */
import { expect, test } from "vitest";
import { JournalSource } from "../../src/receive/journal/journal-source.ts";
import { addBytes, bytesBetween } from "../../src/wal/lsn.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { filled, WalWriter } from "../wal/wal-writer.ts";
import { openRig, TIMELINE } from "./journal-rig.ts";

/** Longer than any test. */
const GATHER_MS = 3_600_000;
const RECORDS = 30;

async function streaming(signal = new AbortController().signal) {
  const writer = new WalWriter();
  for (let i = 0; i < RECORDS; i++) writer.write({ data: filled(500) });
  const rig = await openRig(new MemoryDisk(), writer);
  const source = new JournalSource({
    journal: rig.journal,
    gatherMs: GATHER_MS,
    onFailure: (error) => {
      throw error;
    },
    onConfirmed: () => undefined,
  });
  const { start: startLsn } = writer;
  const from = { slot: undefined, timeline: TIMELINE, startLsn, storedLsn: startLsn };
  const stream = await source.startReplication({ ...from, signal });
  const grow = async (to: number): Promise<void> => {
    await rig.feed(writer.records[to - 1]?.end ?? startLsn, 10_000);
    await rig.settle();
  };
  const events = stream[Symbol.asyncIterator]();
  const status = { write: startLsn, flush: startLsn, apply: startLsn, clock: 0n };
  const ask = (): void => stream.sendStatus({ ...status, replyRequested: true });
  return { writer, rig, stream, events, grow, ask };
}

test("what the journal has is read at once, what a thousand commits add later is one piece", async () => {
  const { writer, rig, stream, events, grow, ask } = await streaming();
  await grow(10);
  const first = await events.next();
  const had = bytesBetween(writer.start, writer.records[9]?.end ?? writer.start);
  expect(first.value).toMatchObject({ kind: "wal", startLsn: writer.start, bytes: { length: had } });
  let isGiven = false;
  const pending = events.next().finally(() => (isGiven = true));
  for (let record = 11; record <= RECORDS; record++) await grow(record);
  expect(isGiven).toBe(false);
  ask();
  expect((await pending).value).toMatchObject({ kind: "keepalive" });
  const rest = bytesBetween(addBytes(writer.start, had), writer.position);
  expect((await events.next()).value).toMatchObject({
    kind: "wal",
    bytes: { length: rest },
    serverEnd: writer.position,
  });
  await stream.stop();
  await rig.close();
});

test("a stop and an abort do not wait for more to gather", async () => {
  const stopped = await streaming();
  const waiting = stopped.events.next();
  await stopped.grow(5);
  await stopped.stream.stop();
  expect(await waiting).toEqual({ done: true, value: undefined });
  await stopped.rig.close();

  const controller = new AbortController();
  const aborted = await streaming(controller.signal);
  const failing = aborted.events.next();
  await aborted.grow(5);
  controller.abort();
  await expect(failing).rejects.toMatchObject({ code: "aborted" });
  await aborted.stream.stop();
  await aborted.rig.close();
});

test("a journal to which nothing is added any more is read to its end at once", async () => {
  const { writer, rig, stream, events, grow } = await streaming();
  await grow(RECORDS);
  rig.journal.finish();
  expect((await events.next()).value).toMatchObject({ kind: "wal", serverEnd: writer.position });
  expect((await events.next()).value).toMatchObject({ kind: "keepalive", replyRequested: true });
  await stream.stop();
  await rig.close();
});
