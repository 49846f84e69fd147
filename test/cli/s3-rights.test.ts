/**
 * Each command with exactly the S3 rights of its row in the table, on servers that enforce policies; then with each right
 * missing. A right that every run needs is named by the refusal. A right that is used sometimes is not missed here.
 */
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generationsPrefix, tailsPrefix, walPrefix } from "../../src/archive/keys.ts";
import {
  ABSENT,
  AS_RECEIVE,
  EMPTY,
  LARGE_PART,
  NEW_RECIPIENTS,
  policyOf,
  rightsOfRole,
  S3_RIGHTS,
  S3_ROLES,
  type S3Right,
  UNRECORDED,
  WITH_WAL,
} from "../../src/cli/s3-rights.ts";
import { COMMAND_NAMES, type CommandName } from "../../src/config/option-spec.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { openStore } from "../../src/store/open.ts";
import { serverAccount } from "../harness/account.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { startCli } from "../harness/process.ts";
import { type S3Bucket, startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess, type Ran } from "./cli.ts";

const CLUSTER = "orders";
const PUTS_AT_ONCE = 8;
const VERSION = 18;
type Env = Readonly<Record<string, string>>;

interface Scene {
  readonly server: PostgresServer;
  readonly folder: string;
  readonly binDir: string;
  /** An archived segment, and where a copy of it lies. */
  readonly segment: string;
  readonly pushed: string;
  /** Holds a segment that continues the archive. */
  readonly elsewhere: string;
  /** The older one may go. */
  readonly backups: readonly [string, string];
  /** The archive's objects by key: each run gets a copy of them. */
  readonly objects: ReadonlyMap<string, Uint8Array>;
}

interface Run {
  readonly url: string;
  readonly env: Env;
  /** May do everything. */
  readonly full: Env;
  /** A folder for this run alone. */
  readonly folder: string;
}

interface Scenario {
  readonly command: CommandName;
  readonly title?: string;
  readonly exit?: number;
  /** Conditions of rights that hold here. */
  readonly uses?: readonly string[];
  run(scene: Scene, run: Run): Promise<Ran>;
}

const seawall = (args: readonly string[], { url, env }: Run): Promise<Ran> =>
  inProcess([...args, "--store", url, "--cluster", CLUSTER, "--store-retry-for", "1s"], {
    PATH: process.env["PATH"] ?? "",
    ...env,
  });
/** The copy has just been made: its WAL looks as if a receiver stored it. */
const clearWal = async ({ url, full }: Run): Promise<void> => {
  for (const place of [walPrefix(CLUSTER), tailsPrefix(CLUSTER)]) await clear(url, full, place);
};
const plain = (command: CommandName, ...flags: readonly string[]): Scenario => ({
  command,
  run: (_scene, run) => seawall([command, ...flags], run),
});

const RECIPIENT = await identityToRecipient(await generateX25519Identity());

/** Encrypts a segment and a manifest of the archive, and writes the identity that opens them. */
async function encryptSome({ url, full, folder }: Run): Promise<string> {
  const identity = await generateX25519Identity();
  const path = join(folder, "identity.txt");
  writeFileSync(path, identity);
  const codec = new Codec({ recipients: await Recipients.of([await identityToRecipient(identity)]) });
  await using look = closing(openStore(url, { env: full }));
  for (const ending of [".zst", "backup_manifest"]) {
    const prefix = ending === ".zst" ? walPrefix(CLUSTER) : `${CLUSTER}/backups/`;
    for await (const { key } of look.store.list(prefix)) {
      if (!key.endsWith(ending)) continue;
      const writer = await codec.writePlain({ signal: new AbortController().signal });
      const pieces: Uint8Array[] = [];
      const reading = (async () => {
        for await (const piece of writer.body()) pieces.push(piece);
      })();
      await writer.write((await look.store.get(key))?.body ?? new Uint8Array(0));
      writer.end();
      await reading;
      await look.store.delete([key]);
      await look.store.put(key, Buffer.concat(pieces));
      break;
    }
  }
  return path;
}

const SCENARIOS: readonly Scenario[] = [
  {
    command: "rekey",
    run: async (_scene, run) => {
      const flags = ["--identity", await encryptSome(run), "--encrypt-to", RECIPIENT, "--confirm", CLUSTER, "--force"];
      return seawall(["rekey", ...flags], run);
    },
  },
  {
    command: "receive",
    run: async ({ server }, { url, env, full }) => {
      const flags = [
        "--dsn",
        server.dsn,
        "--store",
        url,
        "--cluster",
        CLUSTER,
        "--no-slot",
        "--ship-interval",
        "100ms",
        // The default port belongs to one process of the machine, and other tests run beside this one.
        "--listen",
        "127.0.0.1:0",
      ];
      await using receiver = startCli(["receive", ...flags], { env });
      await using look = closing(openStore(url, { env: full }));
      const keysBelow = async (prefix: string): Promise<string[]> => {
        const keys: string[] = [];
        for await (const page of look.store.listPages(prefix)) keys.push(...page.map(({ key }) => key));
        return keys;
      };
      const goal = (await keysBelow(walPrefix(CLUSTER))).length + 3;
      const earlier = new Set(await keysBelow(tailsPrefix(CLUSTER)));
      // WAL that is written before the stream begins is WAL that every later run has to receive.
      await receiver.waitForLine(/starting to stream/).catch(() => undefined);
      // A chunk of its own, too: the segments that earlier runs have filled may reach the goal before there is one.
      let isDone = false;
      while (receiver.running && !isDone) {
        await server.sql("SELECT txid_current(), pg_switch_wal()");
        await sleep(300);
        const chunks = (await keysBelow(tailsPrefix(CLUSTER))).filter((key) => !earlier.has(key));
        isDone = chunks.length > 0 && (await keysBelow(walPrefix(CLUSTER))).length >= goal;
      }
      const { code } = await receiver.end("SIGTERM");
      return { code: code ?? -1, stdout: "", stderr: receiver.stderr };
    },
  },
  {
    command: "wal-push",
    run: ({ pushed }, run) => seawall(["wal-push", pushed], run),
  },
  {
    ...{ command: "wal-push", title: "encrypted", uses: [NEW_RECIPIENTS] },
    run: ({ pushed }, run) => seawall(["wal-push", pushed, "--encrypt-to", RECIPIENT], run),
  },
  { command: "import", run: ({ elsewhere }, run) => seawall(["import", elsewhere], run) },
  { command: "check", run: ({ server }, run) => seawall(["check", "--dsn", server.dsn], run) },
  {
    command: "init",
    run: ({ server }, run) => seawall(["init", "--dsn", server.dsn, "--config", join(run.folder, "seawall.yaml")], run),
  },
  {
    command: "status",
    run: (_scene, run) => seawall(["status", "--listen", "127.0.0.1:9"], run),
  },
  {
    ...{ command: "backup", title: "with its WAL", uses: [WITH_WAL, LARGE_PART] },
    run: ({ server }, run) => seawall(["backup", "--with-wal", "--dsn", server.dsn, "--checkpoint", "fast"], run),
  },
  plain("list"),
  { command: "show", run: ({ backups }, run) => seawall(["show", backups[0]], run) },
  plain("verify"),
  plain("verify", "--deep"),
  { command: "pin", run: ({ backups }, run) => seawall(["pin", backups[0]], run) },
  { command: "unpin", run: ({ backups }, run) => seawall(["unpin", backups[1]], run) },
  plain("expire", "--keep-full", "1"),
  { command: "delete", run: ({ backups }, run) => seawall(["delete", backups[0]], run) },
  {
    command: "cluster remove",
    run: async (_scene, run) => {
      await clearWal(run);
      return seawall(["cluster", "remove", "--confirm", CLUSTER, "--force"], run);
    },
  },
  {
    command: "cluster allow-plain",
    run: async ({ pushed }, run) => {
      await seawall(["wal-push", pushed, "--encrypt-to", RECIPIENT], { ...run, env: run.full });
      return seawall(["cluster", "allow-plain", "--confirm", CLUSTER], run);
    },
  },
  {
    command: "cluster upgrade",
    run: async (_scene, run) => {
      await clearWal(run);
      await using other = await startPostgres({ version: 18, freshIdentifier: true });
      const args = ["cluster", "upgrade", "--dsn", other.dsn, "--force"];
      // As if one that another account began had been interrupted: on Ceph an account may always read what it has stored.
      await seawall(args, { ...run, env: run.full });
      await clear(run.url, run.full, generationsPrefix(CLUSTER));
      return await seawall(args, run);
    },
  },
  {
    command: "restore",
    run: (_scene, run) => seawall(["restore", "--target-dir", join(run.folder, "data")], run),
  },
  {
    command: "wal-fetch",
    // Named with its generation: then no other one is looked for.
    run: ({ segment }, run) => {
      const named = ["--store", run.url, "--cluster", `${CLUSTER}@1`, "--store-retry-for", "1s"];
      const env = { PATH: process.env["PATH"] ?? "", ...run.env };
      return inProcess(["wal-fetch", segment, join(run.folder, "segment"), ...named], env);
    },
  },
  {
    ...{ command: "wal-fetch", title: "beyond the end", exit: 1, uses: [ABSENT] },
    run: (_scene, run) => seawall(["wal-fetch", "00000001000000FF000000FF", join(run.folder, "segment")], run),
  },
  {
    command: "drill",
    run: ({ binDir }, run) => {
      const fetch = serverRestoreCommand(["--store", run.url, "--cluster", CLUSTER], { env: run.env });
      const account = serverAccount();
      const owner = account === undefined ? [] : ["--owner", account.name];
      const place = ["--scratch-dir", run.folder, "--pg-bin", binDir, "--no-amcheck", "--no-checksums"];
      return seawall(["drill", ...owner, ...place, "--restore-command", fetch], run);
    },
  },
];

/** For each role a command beyond its policy, and the right that the refusal names. */
const REFUSED: readonly (readonly [role: string, command: CommandName, action: string])[] = [
  ["receiver", "expire", "s3:PutObject"],
  ["keeper", "cluster remove", "s3:PutObject"],
  ["import", "pin", "s3:PutObject"],
  ["removal", "pin", "s3:PutObject"],
  ["upgrade", "pin", "s3:PutObject"],
  ["rekey", "pin", "s3:PutObject"],
  ["restorer", "delete", "s3:PutObject"],
  ["read-only", "pin", "s3:PutObject"],
];

test("each command that asks a store has a row, and each row a scenario", () => {
  const without: readonly CommandName[] = [
    "slot create",
    "slot drop",
    "notify-test",
    "wal-prefetch",
    "cost",
    "keygen",
    "completion",
  ];
  expect(Object.keys(S3_RIGHTS).sort()).toEqual(COMMAND_NAMES.filter((name) => !without.includes(name)).sort());
  expect(new Set(SCENARIOS.map(({ command }) => command))).toEqual(new Set(Object.keys(S3_RIGHTS)));
});

for (const kind of [undefined, "versitygw"] as const) {
  const s3 = await startS3(kind);
  describe.skipIf(!s3.available || !s3.enforcesPolicies)(kind ?? "Ceph", () => {
    let scene: Scene;
    let bucket: S3Bucket;
    let runs = 0;

    beforeAll(async () => {
      bucket = await s3.bucket();
      scene = await prepare(bucket.urlFor("whole"), s3.env);
    }, 600_000);
    afterAll(async () => {
      await scene.server[Symbol.asyncDispose]();
      await bucket[Symbol.asyncDispose]();
      removeTree(scene.folder);
    });

    /** Runs the command in a prefix of its own, with these rights in it and none elsewhere. */
    const run = async (scenario: Scenario, rights: readonly S3Right[]): Promise<Ran> => {
      const prefix = `runs/${(runs += 1)}`;
      await copy(scene.objects, { to: bucket.urlFor(prefix), env: s3.env });
      const env = await s3.allow(bucket, policyOf(rights, { bucket: bucket.name, prefix, cluster: CLUSTER }));
      const folder = join(scene.folder, `run-${runs}`);
      mkdirSync(folder, { mode: 0o755 });
      try {
        return await scenario.run(scene, { url: bucket.urlFor(prefix), env, full: s3.env, folder });
      } finally {
        await clear(bucket.urlFor(prefix), s3.env);
      }
    };

    describe.each(SCENARIOS.map((row) => ({ title: "", ...row })))("$command $title", (scenario) => {
      const rights = S3_RIGHTS[scenario.command] ?? [];
      const exit = scenario.exit ?? 0;
      test("does its work with exactly its rights", { timeout: 300_000 }, async () => {
        expect(await run(scenario, rights)).toMatchObject({ code: exit });
      });
      // Ceph answers as AWS does; versitygw tells an absent key to an account that may not list.
      test.each(kind === undefined ? rights : [])(
        "without $action on $on ($when)",
        { timeout: 300_000 },
        async (missing) => {
          const { code, stdout, stderr } = await run(
            scenario,
            rights.filter((right) => right !== missing),
          );
          const said = { code, said: stdout + stderr };
          if (missing.when === AS_RECEIVE && code !== exit) {
            expect(said.said).toContain(missing.action);
            return;
          }
          const isNeeded = missing.when === undefined || (scenario.uses ?? []).includes(missing.when);
          if (!isNeeded) expect(said).toMatchObject({ code: exit });
          else expect(said).not.toMatchObject({ code: exit });
          if (missing.when === UNRECORDED) expect(said.said).toContain("not recorded");
          if (isNeeded) expect(said).toMatchObject({ said: expect.stringContaining(missing.action) as unknown });
        },
      );
    });

    test.each(S3_ROLES)(
      "the policy of the role $name is enough for its commands",
      { timeout: 600_000 },
      async (role) => {
        for (const scenario of SCENARIOS.filter(({ command }) => role.commands.includes(command))) {
          const { code, stderr } = await run(scenario, rightsOfRole(role));
          expect({ command: scenario.command, code, stderr }).toMatchObject({ code: scenario.exit ?? 0 });
        }
      },
    );

    test(
      "the right that is used before the archive has begun is enough, and missed",
      { timeout: 300_000 },
      async () => {
        const first: Scenario = {
          command: "check",
          run: async ({ server }, one) => {
            await clear(one.url, one.full);
            return seawall(["check", "--dsn", server.dsn], one);
          },
        };
        const rights = S3_RIGHTS.check ?? [];
        expect(await run(first, rights)).toMatchObject({ code: 0 });
        // versitygw tells an absent key to an account that may not list.
        if (kind !== undefined) return;
        const without = await run(
          first,
          rights.filter(({ when }) => when !== EMPTY),
        );
        expect(without).toMatchObject({ code: 1, stdout: expect.stringContaining("s3:ListBucket") as unknown });
      },
    );

    test("no role is without a command that it is refused", () => {
      expect(REFUSED.map(([role]) => role)).toEqual(S3_ROLES.map(({ name }) => name));
    });

    test.each(REFUSED)("the policy of the role %s refuses %s", { timeout: 300_000 }, async (name, command, action) => {
      const role = S3_ROLES.find((one) => one.name === name);
      const scenario = SCENARIOS.find((one) => one.command === command);
      if (role === undefined || scenario === undefined) throw new Error(`no role ${name}, or no scenario ${command}`);
      const { code, stdout, stderr } = await run(scenario, rightsOfRole(role));
      expect({ code, said: stdout + stderr }).toMatchObject({
        code: 5,
        said: expect.stringContaining(action) as unknown,
      });
    });
  });
}

/** A server, and an archive with two backups of it, the newer one pinned, and WAL behind them. */
async function prepare(url: string, env: Env): Promise<Scene> {
  const { binDir } = await embeddedBinaries(VERSION);
  const folder = makeTempDir("rights");
  const server = await startPostgres({ version: VERSION, segmentSizeMiB: 1, settings: { wal_keep_size: "1GB" } });
  await using receiver = startCli(
    [
      "receive",
      "--dsn",
      server.dsn,
      "--store",
      url,
      "--cluster",
      CLUSTER,
      "--slot",
      "prepare",
      "--listen",
      "127.0.0.1:0",
    ],
    { env },
  );
  await receiver.waitForLine(/starting to stream/);
  const backup = async (): Promise<string> => {
    const flags = ["--dsn", server.dsn, "--checkpoint", "fast", "--json"];
    const { code, stdout, stderr } = await seawall(["backup", ...flags], { url, env, full: env, folder });
    if (code !== 0) throw new Error(stderr);
    await server.sql("SELECT txid_current(), pg_switch_wal()");
    return (JSON.parse(stdout) as { id: string }).id;
  };
  const segment = String((await server.sql("SELECT pg_walfile_name(pg_current_wal_lsn()) AS name"))[0]?.["name"]);
  const backups = [await backup(), await backup()] as const;
  await receiver.end("SIGTERM");
  await server.dropSlot("prepare");
  const pinned = await seawall(["pin", backups[1]], { url, env, full: env, folder });
  if (pinned.code !== 0) throw new Error(pinned.stderr);
  // For the next backup: more than fits into one part of an upload. A table of this size would fill the archive with its WAL.
  const large = join(server.dataDir, "large");
  writeFileSync(large, randomBytes(12 * 1024 * 1024));
  giveToServer(large, 0o600);
  const pushed = join(folder, segment);
  writeFileSync(pushed, await server.readWalFile(segment));
  const elsewhere = join(folder, "elsewhere");
  mkdirSync(elsewhere);
  await server.sql("SELECT pg_create_restore_point('elsewhere')");
  const next = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
  writeFileSync(join(elsewhere, next), await server.readWalFile(next));
  return { server, folder, binDir, segment, pushed, elsewhere, backups, objects: await objectsOf(url, env) };
}

async function objectsOf(url: string, env: Env): Promise<Map<string, Uint8Array>> {
  await using source = closing(openStore(url, { env }));
  const objects = new Map<string, Uint8Array>();
  for await (const { key } of source.store.list("")) {
    const found = await source.store.get(key);
    if (found !== undefined) objects.set(key, found.body);
  }
  return objects;
}

async function copy(objects: Scene["objects"], { to, env }: { readonly to: string; readonly env: Env }): Promise<void> {
  await using target = closing(openStore(to, { env }));
  const left = objects.entries();
  const putAll = async (): Promise<void> => {
    for (const [key, body] of left) await target.store.put(key, body);
  };
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, putAll));
}

async function clear(url: string, env: Env, place = ""): Promise<void> {
  await using whole = closing(openStore(url, { env }));
  const keys: string[] = [];
  for await (const { key } of whole.store.list(place)) keys.push(key);
  await whole.store.delete(keys);
}

function closing(store: ReturnType<typeof openStore>): AsyncDisposable & { readonly store: typeof store } {
  return { store, [Symbol.asyncDispose]: () => store.close() };
}
