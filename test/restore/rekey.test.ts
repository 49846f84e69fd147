/** `seawall rekey` of a real server's archive: the old identity opens nothing any more, and the new one everything. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blocksRunBy } from "../deploy/page-blocks.ts";
import { findAgeTool } from "../harness/age-tools.ts";
import { makeKeys } from "../harness/encryption.ts";
import { type PostgresServer, tool } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, promoted, rowsOf } from "./restored.ts";

/** Every file below a folder. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  );
}

/** Sizes, times and digests of all files below a folder. */
function listing(folder: string): string[] {
  return filesBelow(folder).map((path) => {
    const { size, mtimeMs, ino } = statSync(path);
    return `${path} ${size} ${mtimeMs} ${ino} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`;
  });
}

/** Restores with these identities alone. */
async function restoredWith(
  archived: Archived,
  identityFile: string,
  target: readonly string[] = [],
): Promise<PostgresServer> {
  return archived.server.fromDataDir(async (dataDir) => {
    const fetchCommand = archived.fetchCommand.replace("--store", `--identity ${identityFile} --store`);
    const flags = ["--restore-command", fetchCommand, "--identity", identityFile, "--target-action", "promote"];
    const result = await archived.run(["--target-dir", dataDir, ...flags, ...target]);
    if (result.code !== 0) throw new Error(`restore exited with ${result.code}:\n${result.stderr}`);
  });
}

const NO_KEYS = { SEAWALL_ENCRYPT_TO: "", SEAWALL_IDENTITY: "" };

test("an archive is shown, rekeyed with a receiver beside it, verified, and restored with the new identity alone", async () => {
  const [oldFolder, newFolder, thirdFolder] = [
    makeTempDir("old-keys"),
    makeTempDir("new-keys"),
    makeTempDir("more-keys"),
  ];
  const [keys, fresh] = [await makeKeys(oldFolder), await makeKeys(newFolder)];
  // Two recipients: the new header has another length.
  const second = await makeKeys(thirdFolder);
  try {
    await using archived = await Archived.start({ keys });
    const { server, url } = archived;
    await server.sql("CREATE TABLE wide AS SELECT repeat(md5(g::text), 8) AS x FROM generate_series(1, 40000) g");
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(3);
    await archived.stored();

    // The receiver pauses: it would remove chunks beside the comparison.
    await archived.share();
    const store = join(new URL(url).pathname, "main");
    const before = listing(store);
    const where = ["--store", url];
    const from = ["--identity", keys.identityFile, "--identity", fresh.identityFile];
    const to = [...from, "--encrypt-to", fresh.recipient, "--encrypt-to", second.recipient];
    const rekey = (...flags: string[]) => runCli(["rekey", ...where, ...flags], { env: NO_KEYS });

    const shown = await rekey(...to);
    expect(shown.code, shown.stderr).toBe(0);
    expect(shown.stdout).toMatch(/^\d+ objects would be encrypted to the new recipients, /);
    expect(shown.stdout).toMatch(/^\d+ objects? of the open segment left unchanged until the segment is full\.$/m);
    expect(shown.stdout).toContain("To do it: add --confirm main");
    expect(shown.stdout).toContain(`The last writer encrypted to ${keys.recipient}`);
    const dry = await rekey(...to, "--dry-run", "--confirm", "main");
    expect(dry.code).toBe(0);
    expect(listing(store)).toEqual(before);
    expect(await rekey(...to, "--confirm", "other")).toMatchObject({ code: 2 });
    const others = ["--identity", second.identityFile, "--encrypt-to", second.recipient];
    const wrong = await rekey(...others, "--confirm", "main");
    expect([wrong.code, wrong.stderr]).toEqual([3, expect.stringContaining("[identity-missing]") as unknown]);
    expect(listing(store)).toEqual(before);

    // One backup first, then the rest: what is done already is passed over.
    const part = JSON.parse((await rekey("--backup", "latest", ...to, "--confirm", "main", "--json")).stdout) as Report;
    expect(part.generations[0]?.objects).toBeGreaterThan(2);
    const done = JSON.parse((await rekey(...to, "--confirm", "main", "--json")).stdout) as Report;
    expect(done).toMatchObject({
      dryRun: false,
      to: [fresh.recipient, second.recipient],
      generations: [{ already: part.generations[0]?.objects, locked: { objects: 0 }, writersTo: [keys.recipient] }],
    });
    const again = JSON.parse((await rekey(...to, "--confirm", "main", "--json")).stdout) as Report;
    expect(again.generations[0]).toMatchObject({ objects: 0, gone: 0 });

    // The receiver goes on, and a new one finds its place; they encrypt to the old recipient still.
    await archived.insert(4);
    await archived.stored();
    await archived.share();
    await archived.insert(5);
    const sealed = await server.value("SELECT pg_current_wal_insert_lsn()::text");
    // A server reads half a megabyte ahead, beyond its target (wal_decode_buffer_size). It must not come to the open segment.
    await server.sql("CREATE TABLE behind AS SELECT repeat(md5(g::text), 8) AS x FROM generate_series(1, 10000) g");
    await archived.insert(6);
    await archived.stored();
    await archived.share();
    const rest = await rekey(...to, "--confirm", "main");
    expect(rest.code, rest.stderr).toBe(0);

    for (const deep of [[], ["--deep"]]) {
      for (const identity of [[], ["--identity", fresh.identityFile]]) {
        const verified = await runCli(["verify", "--json", ...deep, ...identity, ...where], { env: NO_KEYS });
        expect(verified.code, verified.stdout).toBe(0);
        expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
      }
    }
    const target = ["--target-dir", join(oldFolder, "none")];
    const refused = await runCli(["restore", ...where, ...target, "--identity", keys.identityFile], { env: NO_KEYS });
    expect([refused.code, refused.stderr]).toEqual([3, expect.stringContaining(fresh.recipient) as unknown]);

    const age = await findAgeTool("age");
    const zstd = tool("zstd");
    if ("path" in age && zstd !== undefined) {
      for (const path of filesBelow(store).filter((one) => one.endsWith(".zst") && !one.includes("/tail/"))) {
        const input = readFileSync(path);
        expect(spawnSync(age.path, ["-d", "-i", keys.identityFile], { input, maxBuffer: 1 << 27 }).status).toBe(1);
        const plain = spawnSync(age.path, ["-d", "-i", second.identityFile], { input, maxBuffer: 1 << 27 });
        expect(plain.stderr.toString(), path).toBe("");
        expect(spawnSync(zstd, ["-d", "-c"], { input: plain.stdout, maxBuffer: 1 << 28 }).status, path).toBe(0);
      }
    }

    {
      await using restored = await restoredWith(archived, fresh.identityFile, ["--target-lsn", sealed]);
      await promoted(restored);
      expect(await rowsOf(restored)).toEqual([1, 2, 3, 4, 5]);
      expect(await restored.value("SELECT count(DISTINCT x) FROM wide")).toBe("40000");
      await restored.stop("immediate");
    }

    // The chunks of the open segment are the receiver's, and stay encrypted to its recipient: both identities are needed until it is full.
    const both = join(newFolder, "both.txt");
    writeFileSync(both, readFileSync(fresh.identityFile, "utf8") + readFileSync(keys.identityFile, "utf8"), {
      mode: 0o644,
    });
    await using restored = await restoredWith(archived, both);
    await promoted(restored);
    expect(await rowsOf(restored)).toEqual([1, 2, 3, 4, 5, 6]);
    await restored.stop("immediate");
  } finally {
    for (const one of [oldFolder, newFolder, thirdFolder]) removeTree(one);
  }
}, 240_000);

interface Report {
  readonly generations: readonly { readonly objects: number; readonly already: number }[];
}

test("a restore while headers of other lengths are replaced again and again", async () => {
  const folders = [makeTempDir("old-keys"), makeTempDir("new-keys"), makeTempDir("more-keys")];
  const [keys, fresh, more] = await Promise.all(folders.map(makeKeys));
  if (keys === undefined || fresh === undefined || more === undefined) throw new Error("no keys");
  try {
    await using archived = await Archived.start({ keys });
    const { server, url } = archived;
    await server.sql(
      "CREATE TABLE wide AS SELECT md5(g::text) || md5((-g)::text) AS x FROM generate_series(1, 200000) g",
    );
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(3);
    await archived.stored();
    const all = join(folders[0] ?? "", "all.txt");
    writeFileSync(all, [keys, fresh, more].map(({ identityFile }) => readFileSync(identityFile, "utf8")).join(""), {
      mode: 0o644,
    });
    let isOver = false;
    let rounds = 0;
    const replacing = (async () => {
      for (; !isOver; rounds++) {
        const to = rounds % 2 === 0 ? [fresh, more] : [keys];
        const flags = to.flatMap(({ recipient }) => ["--encrypt-to", recipient]);
        const done = await runCli(["rekey", "--store", url, "--identity", all, ...flags, "--confirm", "main"], {
          env: NO_KEYS,
        });
        expect(done.code, done.stderr).toBe(0);
      }
    })();
    await using restored = await restoredWith(archived, all);
    await promoted(restored);
    expect(await rowsOf(restored)).toEqual([1, 2, 3]);
    const verified = await runCli(["verify", "--deep", "--identity", all, "--store", url], { env: NO_KEYS });
    expect(verified.code, verified.stdout).toBe(0);
    isOver = true;
    await replacing;
    expect(rounds).toBeGreaterThan(0);
    await restored.stop("immediate");
  } finally {
    folders.forEach(removeTree);
  }
}, 240_000);

test("killed at any moment it goes on, and two at once end with one", async () => {
  const folders = [makeTempDir("old-keys"), makeTempDir("new-keys")];
  const [keys, fresh] = await Promise.all(folders.map(makeKeys));
  if (keys === undefined || fresh === undefined) throw new Error("no keys");
  try {
    await using archived = await Archived.start({ keys });
    const { server, url } = archived;
    for (let n = 1; n <= 6; n++) {
      await archived.insert(n);
      await server.sql("SELECT pg_switch_wal()");
    }
    await archived.backup();
    await archived.insert(7);
    await archived.stored();
    await archived.stopReceiving();
    const verify = async (): Promise<void> => {
      const both = ["--identity", keys.identityFile, "--identity", fresh.identityFile];
      const verified = await runCli(["verify", "--deep", ...both, "--store", url], { env: NO_KEYS });
      expect(verified.code, verified.stdout).toBe(0);
    };
    const flags = (from: typeof keys, to: typeof keys): string[] => [
      ...["rekey", "--store", url, "--identity", from.identityFile, "--identity", to.identityFile],
      ...["--encrypt-to", to.recipient, "--confirm", "main", "--json"],
    ];
    // A killed run leaves objects of both kinds, and each of them whole.
    for (const waitMs of [250, 400, 600, 900]) {
      await using killed = startCli(flags(keys, fresh), { env: NO_KEYS });
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      await killed.end("SIGKILL");
      await verify();
    }
    const [one, two] = await Promise.all([
      runCli(flags(keys, fresh), { env: NO_KEYS }),
      runCli(flags(keys, fresh), { env: NO_KEYS }),
    ]);
    expect([one.code, two.code], one.stderr + two.stderr).toEqual([0, 0]);
    const last = JSON.parse((await runCli(flags(keys, fresh), { env: NO_KEYS })).stdout) as Report;
    expect(last.generations[0]).toMatchObject({ objects: 0, locked: { objects: 0 }, gone: 0 });
    await verify();

    // The page's commands, back to the first recipient.
    const [dir = ""] = folders;
    writeFileSync(join(dir, "seawall.yaml"), `store: ${url}\n`);
    writeFileSync(join(dir, "new-recipients.txt"), `# one a line\n${keys.recipient}\n`);
    const files = new Map([
      ["/etc/seawall.yaml", join(dir, "seawall.yaml")],
      ["old.txt", fresh.identityFile],
      ["new.txt", keys.identityFile],
      ["new-recipients.txt", join(dir, "new-recipients.txt")],
    ]);
    const outputs: string[] = [];
    for (const line of blocksRunBy("test/restore/rekey.test.ts").flatMap(({ text }) => text.trim().split("\n"))) {
      const [, ...words] = line.replace(/ *#.*/, "").split(" ");
      const { code, stdout, stderr } = await runCli(
        words.map((word) => files.get(word) ?? word),
        { env: NO_KEYS },
      );
      expect(code, stdout + stderr).toBe(0);
      outputs.push(stdout);
    }
    expect(outputs).toEqual([
      expect.stringMatching(/^\d+ objects would be encrypted to the new recipients/),
      expect.stringMatching(/^\d+ objects encrypted to the new recipients/),
      expect.any(String),
    ]);
  } finally {
    folders.forEach(removeTree);
  }
}, 240_000);
