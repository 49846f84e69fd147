/** The pipe between the reader of the manifest and the store that takes it: order, ceiling, and who waits for whom. */
import { setImmediate as turn } from "node:timers/promises";
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { PlainWriter } from "../../src/codec/plain-writer.ts";
import { announcedRandom } from "../harness/random.ts";

const MIB = 1 << 20;

async function collect(pipe: PlainWriter): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of pipe.body()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Whether it settles without a further call. */
async function settles(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  for (let i = 0; i < 10; i++) await turn();
  return settled;
}

describe("a plain writer", () => {
  test("gives the bytes on in order, and knows how many they were and their checksum", async () => {
    const random = announcedRandom("byte pipe");
    const pipe = new PlainWriter(new AbortController().signal);
    const sent: Uint8Array[] = [];
    const reading = collect(pipe);
    for (let i = 0; i < 50; i++) {
      const chunk = random.bytes(random.between(0, 200_000));
      sent.push(Uint8Array.from(chunk));
      await pipe.write(chunk);
      // The writer's own buffer again: what was queued is a copy.
      chunk.fill(0);
    }
    pipe.end();
    const all = Buffer.concat(sent);
    expect((await reading).equals(all)).toBe(true);
    expect(pipe.storedBytes).toBe(all.length);
    expect(pipe.crc32c).toBe(crc32c(all));
  });

  test("of nothing is empty", async () => {
    const pipe = new PlainWriter(new AbortController().signal);
    const reading = collect(pipe);
    expect(await settles(reading)).toBe(false);
    pipe.end();
    expect((await reading).length).toBe(0);
    expect([pipe.storedBytes, pipe.crc32c]).toEqual([0, 0]);
  });

  test("lets the writer wait once a MiB is queued, until the reader has taken something", async () => {
    const pipe = new PlainWriter(new AbortController().signal);
    await pipe.write(Buffer.alloc(MIB - 1));
    await pipe.write(Buffer.alloc(MIB));
    const waiting = pipe.write(Buffer.from("last"));
    expect(await settles(waiting)).toBe(false);
    const body = pipe.body();
    expect((await body.next()).value).toHaveLength(MIB - 1);
    // What is left is still at the ceiling.
    expect(await settles(waiting)).toBe(false);
    expect((await body.next()).value).toHaveLength(MIB);
    await waiting;
    pipe.end();
    expect(Buffer.from((await body.next()).value ?? []).toString()).toBe("last");
    expect((await body.next()).done).toBe(true);
  });

  test("wakes a waiting writer when it is cancelled, and takes nothing more", async () => {
    const cancel = new AbortController();
    const pipe = new PlainWriter(cancel.signal);
    await pipe.write(Buffer.alloc(MIB));
    const waiting = pipe.write(Buffer.from("x"));
    const why = new Error("the store refused it");
    cancel.abort(why);
    await expect(waiting).rejects.toMatchObject({ code: "aborted", cause: why });
    await expect(pipe.write(Buffer.from("y"))).rejects.toMatchObject({ code: "aborted" });
    pipe.end();
    expect(await collect(pipe)).toHaveLength(MIB);
  });
});
