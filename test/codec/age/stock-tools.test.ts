/** Encrypted objects and other programs: what Seawall writes they decrypt, and what they write Seawall's reader decrypts. */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Identities, identitiesIn } from "../../../src/codec/age/identities.ts";
import { Recipients } from "../../../src/codec/age/recipients.ts";
import { Codec, OWN_DIGEST } from "../../../src/codec/codec.ts";
import { FrameSlots } from "../../../src/codec/frame-slots.ts";
import { CodecPool } from "../../../src/codec/pool.ts";
import { type AgeTool, findAgeTool } from "../../harness/age-tools.ts";
import { makeKeys } from "../../harness/encryption.ts";
import { tool } from "../../harness/postgres.ts";
import { makeTempDir, removeTree } from "../../harness/temp.ts";
import { readFileSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient, Encrypter, armor } from "age-encryption";

const folder = makeTempDir("age");
afterAll(() => removeTree(folder));
const { recipient, identityFile } = await makeKeys(folder);
const second = await identityToRecipient(await generateX25519Identity());
const recipients = await Recipients.of([second, recipient]);
const reader = new Codec({ identities: new Identities(await identitiesIn(readFileSync(identityFile), identityFile)) });

function filter(program: string, args: readonly string[], input: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync(program, args, { input, maxBuffer: 1 << 27 });
  if (status !== 0) throw new Error(`${program} ended with ${String(status)}: ${stderr.toString()}`);
  return stdout;
}

const zstd = tool("zstd") ?? "zstd";
const TOOLS: readonly AgeTool[] = ["age", "rage"];

for (const name of TOOLS) {
  const access = await findAgeTool(name);
  const path = "path" in access ? access.path : "";
  describe.skipIf(path === "")(name, () => {
    const decrypt = (stored: Uint8Array): Buffer => filter(path, ["-d", "-i", identityFile], stored);

    test.each([0, 5, 65_536, 3_000_000])("and zstd give the content of an object of %i bytes", async (length) => {
      const raw = randomBytes(length);
      // As much as a clear envelope holds.
      const clear = { meta: { kind: "segment", long: "x".repeat(9_000) }, digest: OWN_DIGEST };
      const { stored } = await new Codec({ recipients }).encode(raw, { kind: "segment" }, clear);
      expect(filter(zstd, ["-d", "-c"], decrypt(stored)).equals(raw)).toBe(true);
    });

    test("and zstd give the content of a stream of frames, such as a backup's part", async () => {
      const pool = new CodecPool({ threads: 1 });
      const codec = new Codec({ recipients, pool, ownsPool: true });
      try {
        const { signal } = new AbortController();
        const frames = await codec.writeFrames({ slots: new FrameSlots(3), signal });
        const stored: Buffer[] = [];
        const collecting = (async (): Promise<void> => {
          for await (const piece of frames.body()) stored.push(Buffer.from(piece));
        })();
        const content = randomBytes(9 << 20);
        await frames.write(content);
        frames.end();
        await collecting;
        expect(filter(zstd, ["-d", "-c"], decrypt(Buffer.concat(stored))).equals(content)).toBe(true);
      } finally {
        await codec.close();
      }
    });

    test.each([0, 65_536, 200_000])("writes a file of %i bytes that is read", async (length) => {
      const content = randomBytes(length);
      const stored = filter(path, ["-r", recipient], content);
      const stream = reader.startReading("plain", "the/key");
      const pieces: Buffer[] = [];
      const take = (piece: Uint8Array): void => void pieces.push(Buffer.from(piece));
      for (let at = 0; at < stored.length; at += 10_007) await stream.push(stored.subarray(at, at + 10_007), take);
      await stream.end(take);
      expect(Buffer.concat(pieces).equals(content)).toBe(true);
    });

    test("refuses an object with a changed header", async () => {
      const { stored } = await new Codec({ recipients }).encode(Buffer.from("WAL"), { kind: "chunk" });
      const copy = Buffer.from(stored);
      const at = copy.indexOf("-> seawall 1\n") + 20;
      copy[at] = copy[at] === 0x41 ? 0x42 : 0x41;
      expect(() => decrypt(copy)).toThrow(/ended with/);
    });
  });
}

describe("an identity file", () => {
  const identity = readFileSync(identityFile, "utf8");

  test("that a passphrase protects is opened by it, armored or not", async () => {
    const encrypter = new Encrypter();
    encrypter.setScryptWorkFactor(10);
    encrypter.setPassphrase("correct horse");
    const binary = await encrypter.encrypt(identity);
    for (const file of [binary, Buffer.from(armor.encode(binary))]) {
      const [found = ""] = await identitiesIn(file, "key.age", "correct horse");
      expect(identity).toContain(found);
      await expect(identitiesIn(file, "key.age", "wrong")).rejects.toMatchObject({ code: "usage" });
      await expect(identitiesIn(file, "key.age")).rejects.toMatchObject({
        code: "usage",
        message: "key.age is protected by a passphrase, and none was given",
      });
    }
  });

  test.each([
    ["nothing", "# a comment\n\n", "key.txt holds no identity of age"],
    ["a recipient", `${recipient}\n`, "key.txt, line 1, is no identity of age"],
    ["an SSH key", "# x\n-----BEGIN OPENSSH PRIVATE KEY-----\n", "key.txt, line 2, is no identity of age"],
  ])("with %s is refused without a word of its content", async (_what, text, message) => {
    const file = join(folder, "bad.txt");
    writeFileSync(file, text);
    await expect(identitiesIn(readFileSync(file), "key.txt")).rejects.toMatchObject({ code: "usage", message });
  });
});

describe("recipients", () => {
  test.each([
    [
      "an identity",
      async () => readFileSync(identityFile, "utf8").split("\n")[1] ?? "",
      "a recipient was given that is a private key",
    ],
    ["an SSH key", async () => "ssh-ed25519 AAAA user", "recipients of the kind ssh-ed25519 cannot be used"],
    [
      "a recipient with a typing error",
      async () => recipient.slice(0, -1) + (recipient.endsWith("q") ? "p" : "q"),
      "is no recipient of age",
    ],
    ["a recipient of a plugin", async () => "age1yubikey1qqq", "is no recipient of age"],
  ])("refuse %s, and do not repeat a private key", async (_what, text, message) => {
    const given = await text();
    const refused = await Recipients.of([given]).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "usage", message: expect.stringContaining(message) as string });
    if (given.startsWith("AGE-SECRET")) expect(String((refused as Error).message)).not.toContain(given);
  });

  test("are at least one and sixteen at most", async () => {
    await expect(Recipients.of([])).rejects.toMatchObject({ code: "usage" });
    const many = await Promise.all(
      Array.from({ length: 17 }, async () => identityToRecipient(await generateX25519Identity())),
    );
    await expect(Recipients.of(many)).rejects.toMatchObject({ code: "usage" });
    expect((await Recipients.of(many.slice(1))).names).toHaveLength(16);
  });
});
