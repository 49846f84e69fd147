/** Where the receiver's time goes while it catches up: Node.js's own sampling profiler on every thread of the child. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { removeTree } from "../test/harness/temp.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import type { BenchContext } from "./context.ts";
import { type Backlog, dropSlot, makeBacklog, slotAtStart, startPrimary } from "./primary.ts";
import { flushedUpTo, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { megabytes } from "./stats.ts";

const BACKLOG_BYTES = 1e9;
const ROWS = 10;

/** What is used here of the format of `--cpu-prof` (Chrome DevTools Protocol, Profiler.Profile); times in µs. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface Thread {
  readonly busySeconds: number;
  readonly functions: readonly { readonly name: string; readonly seconds: number }[];
}

export async function benchProfile(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ synchronous_commit: "off" });
  context.say("profile: writing the backlog");
  const backlog = await makeBacklog(server, BACKLOG_BYTES);
  const parts: string[] = [];
  for (const target of ["directory", "S3"] as const) {
    const { threads, seconds } = await profiled(context, server, backlog, target);
    const busy = threads.reduce((sum, thread) => sum + thread.busySeconds, 0);
    const [main, ...workers] = threads;
    const codec = workers.reduce((sum, { busySeconds }) => sum + busySeconds, 0);
    const rows = (main?.functions ?? []).slice(0, ROWS).map(({ name, seconds: self }) => [name, self.toFixed(2)]);
    parts.push(
      `Into ${target === "S3" ? "S3" : "a directory"}: ${seconds.toFixed(1)} s for ${megabytes(backlog.bytes).toFixed(0)} MB; ` +
        `JavaScript threads busy ${busy.toFixed(1)} s, of which the codec's ${codec.toFixed(1)} s (zstd and CRC-32C). The ` +
        "receiving thread's own functions, seconds:\n",
      table(["function", "self, s"], rows),
      "",
    );
  }
  return {
    name: "profile",
    title: "Where the time goes",
    estimate:
      "Compressing at 600 MB/s a core is the largest part, then copying out of the socket, CRC-32C of records, and for S3 the " +
      "SHA-256 that signs a body over plain HTTP.",
    body: parts.join("\n"),
  };
}

async function profiled(
  context: BenchContext,
  server: PostgresServer,
  backlog: Backlog,
  target: "directory" | "S3",
): Promise<{ threads: Thread[]; seconds: number }> {
  const directory = context.scratch("profiled");
  const profiles = context.scratch("profiles");
  const s3 = target === "S3" ? await context.s3() : undefined;
  await using bucket = await s3?.bucket();
  await slotAtStart(server, "profile");
  const child = startSeawall(server, {
    slot: "profile",
    store: bucket?.url ?? `file://${directory}`,
    env: s3?.env ?? {},
    nodeArgs: ["--cpu-prof", `--cpu-prof-dir=${profiles}`],
  });
  const seconds = (await flushedUpTo(server, child, "profile", backlog.endLsn)) / 1000;
  await child.end();
  await dropSlot(server, "profile");
  const threads = readdirSync(profiles)
    // CPU.<date>.<time>.<pid>.<thread>.<sequence>.cpuprofile: the main thread is 0.
    .sort((a, b) => Number(a.split(".")[4]) - Number(b.split(".")[4]))
    .map((name) => readProfile(join(profiles, name)));
  removeTree(profiles);
  removeTree(directory);
  return { threads, seconds };
}

function readProfile(path: string): Thread {
  // Written by Node.js itself a moment ago.
  const profile = JSON.parse(readFileSync(path, "utf8")) as CpuProfile;
  const names = new Map(
    profile.nodes.map(({ id, callFrame: { functionName, url } }) => {
      const place = url === "" ? "" : ` (${url.replace(/^.*\/(?:dist|node_modules)\//, "")})`;
      return [id, `${functionName === "" ? "anonymous" : functionName}${place}`];
    }),
  );
  const times = new Map<string, number>();
  for (const [index, sample] of profile.samples.entries()) {
    const name = names.get(sample) ?? "?";
    times.set(name, (times.get(name) ?? 0) + (profile.timeDeltas[index] ?? 0) / 1e6);
  }
  times.delete("(idle)");
  const functions = [...times].map(([name, seconds]) => ({ name, seconds })).sort((a, b) => b.seconds - a.seconds);
  return { busySeconds: functions.reduce((sum, { seconds }) => sum + seconds, 0), functions };
}
