/** An encrypted archive of a real server, from the receiver that cannot read it to the restore that can. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findAgeTool } from "../harness/age-tools.ts";
import { serverAccount } from "../harness/account.ts";
import { makeKeys } from "../harness/encryption.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { tool, versionsUnderTest } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { promoted, Archived, rowsOf } from "./restored.ts";

/** Every file below a folder. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  );
}

const CANARY = "canary-4711";

test.each(versionsUnderTest())(
  "PostgreSQL %i: table data, names of files and restore points of an encrypted archive are in no object, and restore",
  async (version) => {
    const folder = makeTempDir("keys");
    const otherFolder = makeTempDir("other-keys");
    const keys = await makeKeys(folder);
    const other = await makeKeys(otherFolder);
    try {
      await using archived = await Archived.start({ version, keys });
      const { server, url } = archived;
      await server.sql(`CREATE TABLE secret AS SELECT '${CANARY}' || g AS x FROM generate_series(1, 1000) g`);
      await archived.insert(1);
      await archived.backup();
      await archived.insert(2);
      await server.sql("SELECT pg_switch_wal()");
      await archived.insert(3);
      await server.sql(`SELECT pg_create_restore_point('${CANARY}')`);
      await archived.insert(4);
      await archived.stored();
      // A receiver that starts again compares what it cannot read.
      await archived.share();
      await archived.insert(5);
      await archived.stored();
      await archived.share();

      const store = new URL(url).pathname;
      const objects = filesBelow(join(store, "main"));
      expect(objects.filter((path) => path.includes("/tail/")).length).toBeGreaterThan(0);
      for (const path of objects) {
        const bytes = readFileSync(path);
        expect(bytes.includes(CANARY), path).toBe(false);
        expect(bytes.includes("pg_filenode.map"), path).toBe(false);
      }

      const where = ["--store", url];
      const blind = { env: { SEAWALL_ENCRYPT_TO: "", SEAWALL_IDENTITY: "" } };
      const deep = await runCli(["verify", "--deep", "--json", ...where], blind);
      expect({ code: deep.code, report: JSON.parse(deep.stdout) as unknown }).toMatchObject({
        code: 0,
        report: {
          ok: true,
          problems: [],
          notes: [{ kind: "encrypted", message: expect.stringMatching(/; give --identity for that$/) as string }],
        },
      });
      expect(deep.stdout).toContain(`encrypted to ${keys.recipient}: `);
      const foreign = await runCli(["verify", "--deep", ...where], { env: { SEAWALL_IDENTITY: other.identityFile } });
      expect(foreign.code).toBe(0);
      expect(foreign.stdout).toContain("what is inside was not read; the identity that was given is another one");
      expect(foreign.stdout).not.toContain("give --identity");
      const listed = await runCli(["list", ...where], blind);
      expect(listed.stdout).toMatch(/ or later /);
      expect(listed.stdout).not.toContain("none since");
      const keyed = await runCli(["list", ...where], { env: archived.env });
      expect(keyed.stdout).not.toMatch(/ or later |unknown/);
      const target = ["--target-dir", join(folder, "none")];
      for (const identity of ["", other.identityFile]) {
        const refused = await runCli(["restore", ...where, ...target], { env: { SEAWALL_IDENTITY: identity } });
        expect(refused.code).toBe(3);
        expect(refused.stderr).toContain(`is encrypted to ${keys.recipient}`);
      }
      const whom = await runCli(["verify", "--full", ...where], blind);
      expect(whom.stdout).toMatch(
        new RegExp(`^encryption of WAL on timeline 1: 0/\\w+ to 0/\\w+: ${keys.recipient}$`, "m"),
      );
      expect(whom.stdout).toMatch(new RegExp(`^encryption of backup \\S+: ${keys.recipient}$`, "m"));
      const withKeys = await runCli(["verify", "--deep", "--json", ...where], { env: archived.env });
      expect(JSON.parse(withKeys.stdout)).toMatchObject({ ok: true, problems: [], notes: [] });

      await using restored = await archived.restored(["--target-name", CANARY, "--target-action", "promote"]);
      await promoted(restored);
      expect(await rowsOf(restored)).toEqual([1, 2, 3]);
      expect(await restored.value("SELECT max(x) FROM secret WHERE x LIKE 'canary%'")).toBe(`${CANARY}999`);
      await restored.stop("immediate");

      const age = await findAgeTool("age");
      const zstd = tool("zstd");
      if (!("path" in age) || zstd === undefined) return;
      for (const path of objects.filter((one) => one.endsWith(".zst"))) {
        const plain = spawnSync(age.path, ["-d", "-i", keys.identityFile], {
          input: readFileSync(path),
          maxBuffer: 1 << 27,
        });
        expect(plain.stderr.toString(), path).toBe("");
        const raw = spawnSync(zstd, ["-d", "-c"], { input: plain.stdout, maxBuffer: 1 << 28 });
        expect({ path, status: raw.status, length: raw.stdout.byteLength > 0 }).toEqual({
          path,
          status: 0,
          length: true,
        });
      }
    } finally {
      for (const one of [folder, otherFolder]) removeTree(one);
    }
  },
  240_000,
);

test("a plain archive goes on encrypted, refuses plain writers until they are let in again, and restores across both borders", async () => {
  const folder = makeTempDir("keys");
  const keys = await makeKeys(folder);
  try {
    await using archived = await Archived.start({});
    const { server, url } = archived;
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    const where = ["--dsn", server.dsn, "--store", url, "--listen", "off", "--log-format", "json", "--slot", "seawall"];
    await using receiver = startCli(["receive", ...where, "--encrypt-to", keys.recipient, "--ship-interval", "100ms"]);
    await receiver.waitForLine(/starting to stream/);
    await archived.insert(3);
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(4);
    expect(await receiver.end("SIGTERM")).toMatchObject({ code: 0 });

    const plain = await runCli(["receive", ...where]);
    expect(plain.code).toBe(3);
    expect(plain.stderr).toContain("encryption-required");
    const checked = await runCli(["check", "--dsn", server.dsn, "--store", url, "--encrypt-to", keys.recipient]);
    expect(checked.stdout).toMatch(/warn\s+encryption\s+the archive has WAL that is not encrypted/);
    const unkeyed = await runCli(["check", "--dsn", server.dsn, "--store", url]);
    expect(unkeyed.stdout).toMatch(/fail\s+encryption\s+receive would be refused/);

    const allow = ["cluster", "allow-plain", "--store", url];
    const shown = await runCli(allow);
    expect(shown.stdout).toContain(`is encrypted since`);
    expect(shown.stdout).toContain(keys.recipient);
    expect((await runCli([...allow, "--confirm", "other"])).code).toBe(2);
    expect((await runCli(["receive", ...where])).stderr).toContain("cluster allow-plain --cluster main --confirm main");
    expect((await runCli([...allow, "--confirm", "main"])).stdout).toContain("From now on it takes plain data");
    expect((await runCli(allow)).stdout).toContain("takes plain data already");
    await using again = startCli(["receive", ...where, "--ship-interval", "100ms"]);
    await again.waitForLine(/starting to stream/);
    await archived.insert(5);
    // A receiver that is stopped stores what it has received, and no more.
    const stored = "SELECT count(*)::text FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_flush_lsn()";
    await expect.poll(() => server.value(stored), { timeout: 60_000 }).toBe("1");
    expect(await again.end("SIGTERM")).toMatchObject({ code: 0 });

    await archived.share();
    const flags = ["--identity", keys.identityFile];
    await using restored = await server.fromDataDir(async (dataDir) => {
      const fetch = archived.fetchCommand.replace("--store", `--identity ${keys.identityFile} --store`);
      const result = await archived.run([
        "--target-dir",
        dataDir,
        "--restore-command",
        fetch,
        "--target-action",
        "promote",
        ...flags,
      ]);
      expect({ code: result.code, stderr: result.stderr }).toMatchObject({ code: 0 });
    });
    await promoted(restored);
    expect(await rowsOf(restored)).toEqual([1, 2, 3, 4, 5]);
    await restored.stop("immediate");
  } finally {
    removeTree(folder);
  }
}, 240_000);

test("a drill of an encrypted archive passes, proves the identity, and stores neither its queries nor their answers", async () => {
  const folder = makeTempDir("keys");
  const scratch = makeTempDir("drill");
  const secondFolder = makeTempDir("second-keys");
  const keys = await makeKeys(folder);
  try {
    await using archived = await Archived.start({ version: 18, keys });
    const { url } = archived;
    await archived.insert(1);
    await archived.backup();
    await archived.stored();
    await archived.share();
    const { binDir } = await embeddedBinaries(18);
    const account = serverAccount();
    const flags = [
      ...["drill", "--store", url, "--scratch-dir", scratch, "--pg-bin", binDir, "--no-amcheck", "--no-checksums"],
      ...["--restore-command", archived.fetchCommand, "--sql", `SELECT '${CANARY}'`],
      ...(account === undefined ? [] : ["--owner", account.name]),
    ];
    const refused = await runCli(flags, { env: { SEAWALL_IDENTITY: "" }, timeoutMs: 120_000 });
    expect({ code: refused.code, stderr: refused.stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining("identity-missing") as string,
    });
    const where = ["--store", url, "--dsn", archived.server.dsn];
    const proof = async (): Promise<unknown> => {
      const { stdout } = await runCli(["status", ...where, "--listen", "off", "--json"]);
      return (JSON.parse(stdout) as { archive: { encryption?: unknown } }).archive.encryption;
    };
    expect(await proof()).toMatchObject({ to: [keys.recipient], provedAt: null });
    const checked = await runCli(["check", ...where, "--encrypt-to", keys.recipient]);
    expect(checked.stdout).toContain(
      `encrypts to ${keys.recipient} alone, and no drill has shown that an identity opens a backup`,
    );
    expect(checked.stdout).toContain("Add a second recipient");
    const empty = ["--dsn", archived.server.dsn, "--store", `file://${scratch}`];
    const first = await runCli(["check", ...empty, "--encrypt-to", keys.recipient]);
    expect(first.stdout).toMatch(new RegExp(`^ +warn +encryption +receive encrypts to ${keys.recipient} alone$`, "m"));
    const second = (await makeKeys(secondFolder)).recipient;
    const both = await runCli(["check", ...empty, "--encrypt-to", keys.recipient, "--encrypt-to", second]);
    expect(both.stdout).not.toContain("encryption");
    const shown = await runCli(["show", "latest", "--store", url]);
    expect(shown.stdout).toMatch(new RegExp(`^encrypted +to ${keys.recipient}$`, "m"));
    const passed = await runCli(flags, { env: archived.env, timeoutMs: 120_000 });
    expect({ code: passed.code, stderr: passed.stderr }).toMatchObject({ code: 0 });
    expect(passed.stdout).toContain(CANARY);
    const drills = filesBelow(join(new URL(url).pathname, "main", "drills"));
    expect(drills).toHaveLength(1);
    const document = readFileSync(drills[0] ?? "", "utf8");
    expect(document).not.toContain(CANARY);
    expect(document).toContain('"query 1"');
    expect(JSON.parse(document)).toMatchObject({ proved: [keys.recipient] });
    expect(await proof()).toMatchObject({ provedAt: expect.stringMatching(/^\d{4}-/) as string });
    const again = await runCli(["check", ...where, "--encrypt-to", keys.recipient]);
    expect(again.stdout).not.toContain("no drill has shown");
  } finally {
    for (const one of [folder, scratch, secondFolder]) removeTree(one);
  }
}, 240_000);
