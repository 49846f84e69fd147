/**
 * The price of encryption: a backlog received, a base backup taken and restored, each plain and encrypted to one recipient, in turn.
 * Everything goes into a directory on the same disk.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { ROOT } from "../test/harness/build.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { type Backlog, dropSlot, makeBacklog, settleDisk, slotAtStart, startPrimary } from "./primary.ts";
import { flushedUpTo, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, megabytes, spreadOf } from "./stats.ts";

const BACKLOG_BYTES = Number(process.env["SEAWALL_BENCH_BACKLOG"] ?? 1.2e9);
const MAIN = join(ROOT, "dist", "cli", "main.js");
const WORKS = ["receive a backlog", "base backup", "restore"] as const;
const FORMS = ["plain", "encrypted"] as const;

type Work = (typeof WORKS)[number];
type Form = (typeof FORMS)[number];

interface Run extends Cost {
  readonly seconds: number;
}

export async function benchEncryption(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ synchronous_commit: "off" });
  context.say("encryption: writing the backlog");
  const backlog = await makeBacklog(server, BACKLOG_BYTES);
  await server.sql("CHECKPOINT");
  const dataBytes = Number(await server.value("SELECT sum(pg_database_size(oid))::text FROM pg_database"));
  const folder = context.scratch("encryption");
  const identity = await generateX25519Identity();
  const identityFile = join(folder, "identity.txt");
  writeFileSync(identityFile, `${identity}\n`, { mode: 0o600 });
  const recipient = await identityToRecipient(identity);
  const runs = new Map<string, Run[]>();
  const note = (work: Work, form: Form, one: Run): void => {
    const name = nameOf(work, form);
    runs.set(name, [...(runs.get(name) ?? []), one]);
    context.say(`  ${name}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} CPU s`);
  };
  for (let round = 0; round < context.rounds; round++) {
    for (const form of FORMS) {
      const [wal, store, target] = ["wal", "store", "target"].map((name) => join(folder, name)) as [
        string,
        string,
        string,
      ];
      for (const path of [wal, store]) mkdirSync(path);
      const writer = form === "plain" ? [] : ["--encrypt-to", recipient];
      const reader = form === "plain" ? [] : ["--identity", identityFile];
      note("receive a backlog", form, await received(server, backlog, wal, writer));
      const from = ["--dsn", server.socketDsn, "--store", `file://${store}`, "--checkpoint", "fast", "--with-wal"];
      note("base backup", form, await measured(["backup", ...from, ...writer]));
      note(
        "restore",
        form,
        await measured(["restore", "--store", `file://${store}`, "--target-dir", target, ...reader]),
      );
      for (const path of [wal, store, target]) removeTree(path);
    }
  }
  return {
    name: "encryption",
    title: "Encryption",
    estimate:
      "ChaCha20-Poly1305 makes 1.2 GB/s a core, over stored bytes, which are fewer than the data. So encrypting costs 0.3 to 0.5 CPU s " +
      "per GB beside some 2.5, and a digest of each segment a little more: 1.1 to 1.2 times as long where two cores are busy.",
    body: report({ walBytes: backlog.bytes, dataBytes }, runs),
  };
}

function nameOf(work: Work, form: Form): string {
  return `${work}, ${form}`;
}

async function received(
  server: PostgresServer,
  backlog: Backlog,
  archive: string,
  args: readonly string[],
): Promise<Run> {
  await slotAtStart(server, "bench");
  await settleDisk();
  const child = startSeawall(server, { slot: "bench", store: `file://${archive}`, args });
  const seconds = (await flushedUpTo(server, child, "bench", backlog.endLsn)) / 1000;
  const cost = child.sample();
  await child.end();
  await dropSlot(server, "bench");
  return { ...cost, seconds };
}

async function measured(args: readonly string[]): Promise<Run> {
  await settleDisk();
  const child = new MeasuredChild(process.execPath, [MAIN, ...args, "--log-level", "warn"]);
  const cost = await child.finished();
  return { ...cost, seconds: (performance.now() - child.startedMs) / 1000 };
}

function report(
  { walBytes, dataBytes }: { readonly walBytes: number; readonly dataBytes: number },
  runs: ReadonlyMap<string, readonly Run[]>,
): string {
  const of = (work: Work, form: Form): readonly Run[] => runs.get(nameOf(work, form)) ?? [];
  const median = (list: readonly Run[], value: (run: Run) => number): number => spreadOf(list.map(value)).median;
  const rows = WORKS.flatMap((work) =>
    FORMS.map((form) => {
      const list = of(work, form);
      const gigabytes = megabytes(work === "receive a backlog" ? walBytes : dataBytes) / 1000;
      const ratio = (value: (run: Run) => number): string =>
        form === "plain" ? "" : formatRatio(median(list, value) / median(of(work, "plain"), value));
      return [
        nameOf(work, form),
        formatSpread(spreadOf(list.map(({ seconds }) => seconds)), 2),
        formatSpread(spreadOf(list.map(({ cpuSeconds }) => cpuSeconds / gigabytes)), 2),
        formatSpread(spreadOf(list.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
        ratio(({ seconds }) => seconds),
        ratio(({ cpuSeconds }) => cpuSeconds),
      ];
    }),
  );
  return [
    `${megabytes(walBytes).toFixed(0)} MB of WAL; a cluster of ${megabytes(dataBytes).toFixed(0)} MB. From starting the process to the ` +
      "last byte flushed, or to its end. CPU without the server's.\n",
    table(["", "seconds", "CPU s per GB", "peak RSS, MiB", "time ÷ plain", "CPU ÷ plain"], rows),
    "",
    "Target: ≤ 1.25× the time.",
  ].join("\n");
}
