/** Short-lived memory is freed at once where it is the buffer's own, and left alone where others have a part of it. */
import { expect, test } from "vitest";
import { freeNow } from "../src/idle-memory.ts";

test("the memory of a buffer is freed at once", () => {
  const before = process.memoryUsage().arrayBuffers;
  const bytes = new Uint8Array(64 << 20);
  expect(process.memoryUsage().arrayBuffers - before).toBeGreaterThan(60 << 20);
  freeNow(bytes);
  expect(bytes.byteLength).toBe(0);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
});

test.each([
  ["a view of larger memory", new Uint8Array(64).subarray(0, 32)],
  ["a view of Node's pool", Buffer.from("abc")],
  ["shared memory", new Uint8Array(new SharedArrayBuffer(64))],
])("%s is left as it is", (_, bytes) => {
  const { byteLength } = bytes;
  freeNow(bytes);
  expect(bytes.byteLength).toBe(byteLength);
});
