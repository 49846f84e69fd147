/** `seawall keygen` and files of identities that a passphrase protects, on a terminal and without one. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { openFolderFor } from "../../src/archive/archive.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { Identities, identitiesIn } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { openStore } from "../../src/store/open.ts";
import { type SegmentNumber, segmentEnd, segmentStart, type TimelineId } from "../../src/wal/lsn.ts";
import { findAgeTool } from "../harness/age-tools.ts";
import { ROOT } from "../harness/build.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Terminal } from "../harness/terminal.ts";
import { inProcess } from "./cli.ts";

const MAIN = join(ROOT, "dist", "cli", "main.js");
const PASSPHRASE = "correct horse battery staple";
const SIZE = 1 << 20;

let dir = "";
let output = "";
beforeEach(() => {
  dir = makeTempDir("keygen");
  output = join(dir, "identity.txt");
});
afterEach(() => removeTree(dir));

interface Made {
  readonly file: string;
  readonly recipient: string;
  readonly protected: boolean;
}

async function keygen(...flags: string[]): Promise<Made> {
  const { code, stdout, stderr } = await inProcess(["keygen", "--output", output, "--json", ...flags]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Made;
}

async function encrypted(text: string, recipient: string): Promise<Buffer> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  return Buffer.from(await encrypter.encrypt(text));
}

function passphraseFile(content = `${PASSPHRASE}\n`): string {
  const path = join(dir, "passphrase.txt");
  writeFileSync(path, content);
  return path;
}

describe("an identity", () => {
  test.each([
    ["X25519", [], /^age1[02-9ac-hj-np-z]{58}$/],
    ["post-quantum", ["--post-quantum"], /^age1pq1[02-9ac-hj-np-z]{1000,}$/],
  ] as const)("of the kind %s opens what is encrypted to its recipient", async (_, flags, pattern) => {
    const made = await keygen(...flags);
    expect(made).toMatchObject({ file: output, protected: false });
    expect(made.recipient).toMatch(pattern);
    expect(statSync(output).mode & 0o777).toBe(0o600);
    const text = readFileSync(output, "utf8");
    expect(text).toContain(`# public key: ${made.recipient}\n`);
    const identities = new Identities(await identitiesIn(Buffer.from(text), output));
    const codec = new Codec({ recipients: await Recipients.of([made.recipient]), identities });
    const { stored } = await codec.encode(Buffer.from("WAL"), {});
    expect((await codec.decode(stored, { key: "k", rawBytesMax: 100 })).raw.toString()).toBe("WAL");
  });

  test("that is there is kept", async () => {
    await keygen();
    const before = readFileSync(output, "utf8");
    expect(await inProcess(["keygen", "--output", output])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("is there already, and is kept") as string,
    });
    expect(readFileSync(output, "utf8")).toBe(before);
  });

  test("is read by age, and its owner is told what to do next", async () => {
    const { code, stdout } = await inProcess(["keygen", "--output", output]);
    expect(code).toBe(0);
    const recipient = /^recipient +(age1\S+)$/m.exec(stdout)?.[1] ?? "";
    expect(stdout).toContain(`--encrypt-to ${recipient}`);
    expect(stdout).toMatch(/seawall drill --identity \S+$/m);
    expect(stdout).not.toContain("AGE-SECRET-KEY");
    const age = await findAgeTool("age");
    if (!("path" in age)) return;
    const read = spawnSync(age.path, ["-d", "-i", output], { input: await encrypted("WAL", recipient) });
    expect({ out: read.stdout.toString(), err: read.stderr.toString() }).toEqual({ out: "WAL", err: "" });
  });
});

describe("an identity with a passphrase", () => {
  test("is shown with the passphrase's file in the drill's command, since a drill does not ask", async () => {
    const path = passphraseFile();
    const { stdout } = await inProcess(["keygen", "--output", output, "--identity-passphrase-file", path]);
    expect(stdout).toContain(`seawall drill --identity ${output} --identity-passphrase-file ${path}`);
  });

  test("from a file is opened with it alone, by age too", async () => {
    const made = await keygen("--identity-passphrase-file", passphraseFile());
    expect(made.protected).toBe(true);
    const file = readFileSync(output);
    expect(file.toString()).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----\n/);
    expect(statSync(output).mode & 0o777).toBe(0o600);
    expect(await identitiesIn(file, output, PASSPHRASE)).toHaveLength(1);
    await expect(identitiesIn(file, output, "another one")).rejects.toMatchObject({ code: "usage" });
    const age = await findAgeTool("age");
    if (!("path" in age)) return;
    const [sealed, plain] = [join(dir, "sealed"), join(dir, "plain")];
    writeFileSync(sealed, await encrypted("WAL", made.recipient));
    await using terminal = new Terminal([age.path, "-d", "-i", output, "-o", plain, sealed]);
    await terminal.answer("passphrase", `${PASSPHRASE}\r`);
    expect(await terminal.code, terminal.shown).toBe(0);
    expect(readFileSync(plain, "utf8")).toBe("WAL");
  });

  test("is asked for twice on a terminal, and not shown", async () => {
    await using terminal = new Terminal([process.execPath, MAIN, "keygen", "--output", output, "--passphrase"]);
    await terminal.answer("Passphrase of the identity", `${PASSPHRASE}\r`);
    await terminal.answer("once more", `${PASSPHRASE}\r`);
    expect(await terminal.code, terminal.shown).toBe(0);
    expect(terminal.shown).toContain("recipient");
    expect(terminal.shown).not.toContain("horse");
    expect(await identitiesIn(readFileSync(output), output, PASSPHRASE)).toHaveLength(1);
  });

  test("that was mistyped leaves no file", async () => {
    await using terminal = new Terminal([process.execPath, MAIN, "keygen", "--output", output, "--passphrase"]);
    await terminal.answer("Passphrase of the identity", `${PASSPHRASE}\r`);
    await terminal.answer("once more", "correct hose\r");
    expect(await terminal.code).toBe(2);
    expect(existsSync(output)).toBe(false);
  });

  test.each([
    ["without a terminal", ["--passphrase"], "--identity-passphrase-file"],
    ["that is empty", ["--identity-passphrase-file", "EMPTY"], "the passphrase is empty"],
  ])("%s is refused, and leaves no file", async (_, flags, message) => {
    const empty = passphraseFile("\n");
    const { code, stderr } = await inProcess([
      "keygen",
      "--output",
      output,
      ...flags.map((flag) => (flag === "EMPTY" ? empty : flag)),
    ]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) as string });
    expect(existsSync(output)).toBe(false);
  });

  test(
    "is asked for by verify and rekey on a terminal; elsewhere the option is named",
    { timeout: 60_000 },
    async () => {
      const { recipient } = await keygen("--identity-passphrase-file", passphraseFile());
      mkdirSync(join(dir, "store"));
      const url = `file://${join(dir, "store")}`;
      const codec = new Codec({ recipients: await Recipients.of([recipient]) });
      const server = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
      const store = openStore(url, { env: {} });
      const archive = await openFolderFor(store, "main", server, { codec });
      const place = { timeline: 1 as TimelineId, segment: 5 as SegmentNumber, segmentSize: SIZE };
      const [startLsn, endLsn] = [segmentStart(place.segment, SIZE), segmentEnd(place.segment, SIZE)];
      const facts = { startLsn, endLsn, verifiedLsn: startLsn };
      await putSegment(archive, place, Buffer.alloc(SIZE), facts, { confirm: true });
      await store.close();

      const verify = ["verify", "--store", url, "--identity", output];
      const refused = await runCli(verify);
      expect(refused).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("--identity-passphrase-file") as string,
      });
      await using terminal = new Terminal([process.execPath, MAIN, ...verify]);
      await terminal.answer("Passphrase of", `${PASSPHRASE}\r`);
      expect(await terminal.code, terminal.shown).toBe(0);
      expect(terminal.shown).not.toContain("horse");
      expect(terminal.shown).not.toContain("was not read");
      const second = await identityToRecipient(await generateX25519Identity());
      const rekey = [
        "rekey",
        "--store",
        url,
        "--identity",
        output,
        "--encrypt-to",
        second,
        "--confirm",
        "main",
        "--force",
      ];
      await using rekeying = new Terminal([process.execPath, MAIN, ...rekey]);
      await rekeying.answer("Passphrase of", `${PASSPHRASE}\r`);
      expect(await rekeying.code, rekeying.shown).toBe(0);
      expect(rekeying.shown).toContain("1 object encrypted to the new recipients");
      const listing = ["list", "--store", url, "--identity", output];
      await using asked = new Terminal([process.execPath, MAIN, ...listing]);
      await asked.answer("Passphrase of", "wrong\r");
      expect(await asked.code).toBe(2);
      expect(asked.shown).toContain("the passphrase does not open");
    },
  );
});
