/**
 * Every wait on the outside, and a peer that accepts and says nothing: each command that talks to a server, a store, a webhook
 * or a receiver, with that peer falling silent at each of its steps. SIGTERM must end the command wherever it waits. The rows
 * below are the table in docs/reliability.md; `SEAWALL_TEST_WRITE=1` writes it.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCli } from "../harness/process.ts";
import { ROOT } from "../harness/build.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { type SilentPeer, silentAfterAnswers, silentAfterPieces } from "../harness/silent-peer.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "../restore/restored.ts";
import { FULL, minutes } from "./campaign.ts";

/** A command that waits for longer than this after SIGTERM has a wait without a signal. */
const ENDS_WITHIN_MS = 45_000;
/** Steps that are tried: a stream has no last one. */
const STEPS_MAX = FULL ? 24 : 7;
const AT_ONCE = 3;
/** In a full run each of eight batches may use up the shutdown timeout. */
const TIMEOUT_MS = minutes(15);

interface Row {
  readonly command: string;
  readonly args: (place: Place) => readonly string[];
}

interface Place {
  /** Connection string of the server, or of the proxy before it. */
  readonly dsn: string;
  readonly store: string;
  readonly folder: string;
  readonly backup: string;
  readonly walFile: string;
}

const at = ({ dsn, store }: Place): string[] => ["--dsn", dsn, "--store", store];
const stored = ({ store }: Place): string[] => ["--store", store];

const SERVER_DEADLINES = "connecting 30 s (`connect_timeout`), a command or query 60 s";

const SERVER_ROWS: readonly (Row & { readonly deadline: string })[] = [
  {
    command: "receive",
    args: (place) => ["receive", ...at(place), "--slot", "silent", "--listen", "off"],
    deadline: `${SERVER_DEADLINES}; the stream \`--receiver-timeout\``,
  },
  {
    command: "backup",
    args: (place) => ["backup", ...at(place), "--with-wal", "--checkpoint", "fast"],
    deadline: `${SERVER_DEADLINES}; its checkpoint 25 h, its data 10 min, its WAL \`--wal-timeout\``,
  },
  { command: "check", args: (place) => ["check", ...at(place), "--slot", "silent"], deadline: SERVER_DEADLINES },
  {
    command: "status",
    args: (place) => ["status", ...at(place), "--slot", "silent", "--listen", "off"],
    deadline: SERVER_DEADLINES,
  },
  {
    command: "slot create",
    args: ({ dsn }) => ["slot", "create", "--dsn", dsn, "--slot", "made"],
    deadline: SERVER_DEADLINES,
  },
  {
    command: "slot drop",
    args: ({ dsn }) => ["slot", "drop", "--dsn", dsn, "--slot", "made"],
    deadline: SERVER_DEADLINES,
  },
];

const STORE_ROWS: readonly Row[] = [
  { command: "receive", args: (place) => ["receive", ...at(place), "--slot", "silent", "--listen", "off"] },
  { command: "backup", args: (place) => ["backup", ...at(place), "--with-wal", "--checkpoint", "fast"] },
  { command: "check", args: (place) => ["check", ...at(place), "--slot", "silent"] },
  { command: "status", args: (place) => ["status", ...at(place), "--slot", "silent", "--listen", "off"] },
  {
    command: "restore",
    args: (place) => ["restore", ...stored(place), "--target-dir", join(place.folder, "restored")],
  },
  { command: "drill", args: (place) => ["drill", ...stored(place), "--scratch-dir", place.folder] },
  {
    command: "wal-fetch",
    args: (place) => ["wal-fetch", "000000010000000000000002", join(place.folder, "f"), ...stored(place)],
  },
  { command: "wal-push", args: (place) => ["wal-push", place.walFile, ...stored(place)] },
  { command: "import", args: (place) => ["import", dirname(place.walFile), ...stored(place)] },
  { command: "list", args: (place) => ["list", ...stored(place)] },
  { command: "show", args: (place) => ["show", place.backup, ...stored(place)] },
  { command: "verify", args: (place) => ["verify", "--deep", ...stored(place)] },
  { command: "pin", args: (place) => ["pin", place.backup, ...stored(place)] },
  { command: "unpin", args: (place) => ["unpin", place.backup, ...stored(place)] },
  { command: "expire", args: (place) => ["expire", "--keep-full", "1", ...stored(place)] },
  { command: "delete", args: (place) => ["delete", place.backup, ...stored(place)] },
];

const STORE_DEADLINE = "each request `--store-timeout`, tries `--store-retry-for`";

const OTHERS = [
  ["notify-test", "webhook", "10 s a try"],
  ["status", "receiver (`--listen`)", "2 s"],
] as const;

/** The table, as it stands in the document. */
function table(): string {
  const rows = [
    ...SERVER_ROWS.map(({ command, deadline }) => [command, "PostgreSQL", deadline]),
    ...STORE_ROWS.map(({ command }) => [command, "store (S3)", STORE_DEADLINE]),
    ...OTHERS,
  ];
  const lines = rows.map(
    ([command, peer, deadline]) => `| \`${command}\` | ${peer} | ${deadline} | ends it at every step |`,
  );
  return ["| command | peer that says nothing | deadline | SIGTERM |", "| --- | --- | --- | --- |", ...lines].join(
    "\n",
  );
}

/** How the command ends with its peer silent from each step on; resolves with the number of steps it has. */
async function tryEveryStep(
  row: Row,
  place: (port: number) => Place,
  options: {
    readonly peer: (step: number) => Promise<SilentPeer>;
    readonly env: Readonly<Record<string, string>>;
  },
): Promise<void> {
  let isThrough = false;
  const one = async (step: number): Promise<void> => {
    if (isThrough) return;
    await using peer = await options.peer(step);
    await using child = startCli([...row.args(place(peer.port)), "--log-level", "error"], { env: options.env });
    const ended = child.ended(120_000).then(
      () => "ended" as const,
      () => "late" as const,
    );
    const first = await Promise.race([peer.silent.then(() => "silent" as const), ended]);
    if (first === "ended") {
      isThrough = true;
      return;
    }
    await child.end("SIGTERM", ENDS_WITHIN_MS);
  };
  for (let step = 0; step < STEPS_MAX && !isThrough; step += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, async (_, beside) => one(step + beside)));
  }
}

const s3 = await startS3();

describe("a peer that accepts and says nothing is no reason to stay when SIGTERM comes", () => {
  let archived: Archived;
  let server: PostgresServer;
  let folder: string;
  let place: Place;
  let bucket: Awaited<ReturnType<typeof s3.bucket>> | undefined;

  beforeAll(async () => {
    folder = makeTempDir("silent");
    bucket = s3.available ? await s3.bucket() : undefined;
    archived = await Archived.start({
      version: 18,
      settings: { wal_keep_size: "256MB" },
      ...(bucket === undefined ? {} : { url: bucket.urlFor("a"), env: s3.env }),
    });
    server = archived.server;
    await archived.insert(1);
    const { id } = await archived.backup();
    await server.sql("SELECT pg_switch_wal()");
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    await server.sql("SELECT pg_create_physical_replication_slot('silent', true)");
    const [wal] = await server.sql("SELECT pg_walfile_name(pg_current_wal_lsn() - 1048576) AS name");
    const walFile = join(folder, String(wal?.["name"]));
    writeFileSync(walFile, await server.readWalFile(String(wal?.["name"])));
    mkdirSync(join(folder, "s"));
    place = { dsn: server.dsn, store: `file://${folder}/s`, folder, backup: id, walFile };
  });
  afterAll(async () => {
    await archived[Symbol.asyncDispose]();
    await bucket?.[Symbol.asyncDispose]();
    removeTree(folder);
  });

  const besideServer = async (row: Row): Promise<void> => {
    const dsn = (port: number): string =>
      `host=127.0.0.1 port=${port} user=postgres dbname=postgres connect_timeout=600`;
    const peer = async (step: number): Promise<SilentPeer> => silentAfterPieces(server.port, step);
    await tryEveryStep(row, (port) => ({ ...place, dsn: dsn(port) }), { peer, env: {} });
  };
  test.each(SERVER_ROWS)("$command, and PostgreSQL", besideServer, TIMEOUT_MS);

  describe.skipIf(!s3.available)("in an S3 store", () => {
    const besideStore = async (row: Row): Promise<void> => {
      const endpoint = (port: number): string =>
        archived.url.replace(encodeURIComponent(s3.endpoint), encodeURIComponent(`http://127.0.0.1:${port}`));
      expect(endpoint(1)).not.toBe(archived.url);
      const peer = async (step: number): Promise<SilentPeer> => silentAfterAnswers(s3.endpoint, step);
      await tryEveryStep(row, (port) => ({ ...place, store: endpoint(port) }), { peer, env: s3.env });
    };
    test.each(STORE_ROWS)("$command, and the store", besideStore, TIMEOUT_MS);
  });

  test("notify-test, and a webhook", async () => {
    const args = (port: number) => ["notify-test", "--notify-url", `http://127.0.0.1:${port}/hook`, ...stored(place)];
    const row = { command: "notify-test", args: ({ dsn }: Place) => args(Number(dsn)) };
    const peer = async (step: number): Promise<SilentPeer> => silentAfterAnswers("http://127.0.0.1:1", step);
    await tryEveryStep(row, (port) => ({ ...place, dsn: String(port) }), { peer, env: {} });
  });

  test("status, and a receiver", async () => {
    const row = {
      command: "status",
      args: ({ dsn }: Place) => ["status", "--listen", `127.0.0.1:${dsn}`, ...stored(place)],
    };
    const peer = async (step: number): Promise<SilentPeer> => silentAfterAnswers("http://127.0.0.1:1", step);
    await tryEveryStep(row, (port) => ({ ...place, dsn: String(port) }), { peer, env: {} });
  });
});

test("docs/reliability.md has the table that these rows make", () => {
  const path = join(ROOT, "docs", "reliability.md");
  const text = readFileSync(path, "utf8");
  const between = /(<!-- waits: begin -->\n)([\s\S]*?)(<!-- waits: end -->)/;
  const cells = (lines: string): string[] =>
    lines
      .split("\n")
      .filter((line) => line.startsWith("|") && !/^\|[ |-]+$/.test(line))
      .map((line) => line.replaceAll(/\s+/g, " "));
  if (process.env["SEAWALL_TEST_WRITE"] === "1") {
    writeFileSync(
      path,
      text.replace(between, (_, begin: string, __, end: string) => `${begin}\n${table()}\n\n${end}`),
    );
    return;
  }
  expect(cells(between.exec(text)?.[2] ?? "")).toEqual(cells(table()));
});
