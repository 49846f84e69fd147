/** A part of a backup that is not what its document says, read by `verify`. */
import binding from "zstd-napi/binding.js";
import { expect, test } from "vitest";
import { PartContents } from "../../src/archive/verify/part.ts";

test("a few kilobytes that expand to gigabytes of zeros are refused when they pass the size of the part", async () => {
  const zeros = Buffer.alloc(16 << 20);
  const target = new Uint8Array(binding.compressBound(zeros.byteLength));
  const frame = target.subarray(0, new binding.CCtx().compress(target, zeros, 1));
  const part = { name: "00001", tablespace: null, bytes: 1 << 20, storedBytes: 0, crc32c: 0, files: 0 };
  const contents = new PartContents({ key: "the/part", part, entries: [], identities: undefined });
  const pushAll = async (): Promise<void> => {
    for (let i = 0; i < 512; i++) await contents.push(frame);
  };
  await expect(pushAll()).rejects.toThrow("the/part holds more than the 1048576 bytes of its tar");
});
