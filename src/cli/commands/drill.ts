/** `seawall drill`: restores, starts, recovers and checks a copy; prints the result and stores it. */
import { randomBytes } from "node:crypto";
import { availableParallelism, tmpdir } from "node:os";
import { resolve } from "node:path";
import { backupIdOf } from "../../archive/keys.ts";
import type { Drill } from "../../archive/records/drills.ts";
import { humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { drill, type Drilled } from "../../restore/drill/drill.ts";
import type { Owner } from "../../restore/part-writer.ts";
import { parseOwner } from "../../restore/target-dir.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { type CommandContext, printResult } from "../context.ts";
import { fetchCommand, recoveryTarget } from "../recovery-settings.ts";
import { withArchive } from "../with-archive.ts";
import { shownTime } from "../views/time.ts";
import { painted } from "../views/painted.ts";
import { type Look, columns } from "../views/layout.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, log, io, env } = context;
  const startedAt = new Date();
  const target = recoveryTarget(context, startedAt);
  const owner = await serverOwner(settings.owner);
  return withArchive(context, { verb: "drilling", backup: settings.backup }, async (archive, progress) => {
    const drilled = await drill({
      archive,
      target,
      owner,
      progress,
      log,
      env,
      backupId: settings.backup,
      id: backupIdOf(startedAt, randomBytes(4).readUInt32LE()),
      binDir: settings.pgBin === undefined ? undefined : resolve(settings.pgBin),
      scratchDir: resolve(settings.scratchDir ?? tmpdir()),
      superuser: settings.superuser,
      preload: settings.preload ?? "",
      keep: settings.keep,
      structures: settings.amcheck,
      pages: settings.checksums,
      restoreCommand: fetchCommand(context, { followsLine: false }),
      queries: (settings.sql ?? "").split("\n").filter((line) => line.trim() !== ""),
      jobs: settings.jobs ?? Math.min(8, Math.max(2, availableParallelism())),
      now: () => new Date(),
      signal: signals.stop,
    });
    progress.end();
    await printResult(context, resultJson(drilled), resultText(drilled, io));
    if (!drilled.drill.ok) return EXIT.no;
    if (drilled.unremoved !== undefined) throw drilled.unremoved;
    return EXIT.done;
  });
}

/** PostgreSQL refuses to run as root. Throws `usage`. */
async function serverOwner(asked: string | undefined): Promise<Owner | undefined> {
  if (asked !== undefined) return parseOwner(asked);
  if (process.getuid?.() !== 0) return undefined;
  try {
    return await parseOwner("postgres");
  } catch (cause) {
    throw new SeawallError("usage", "PostgreSQL does not run as root, and there is no account postgres here", {
      hint: "Name another account with --owner, or run the drill as one.",
      cause,
    });
  }
}

function resultJson({ drill, folder, unrecorded, unremoved }: Drilled): Record<string, unknown> {
  const { promisedLsn, reachedLsn, lastCommitAt, ...rest } = drill;
  return {
    ...rest,
    promisedLsn: promisedLsn === undefined ? null : formatLsn(promisedLsn),
    reachedLsn: reachedLsn === undefined ? null : formatLsn(reachedLsn),
    lastCommitAt: lastCommitAt ?? null,
    folder: folder ?? null,
    unrecorded: unrecorded?.message ?? null,
    unremoved: unremoved?.message ?? null,
  };
}

function resultText({ drill, folder, unrecorded, unremoved }: Drilled, { colours, width }: Look): string {
  const { id, ok, backup, timeline, lastCommitAt, restoreSeconds, recoverySeconds } = drill;
  const commit = lastCommitAt === undefined ? "" : `, last commit at ${shownTime(lastCommitAt, "exact")}`;
  const took = (seconds: number | undefined): string => (seconds === undefined ? "did not end" : humanSeconds(seconds));
  const colour = { passed: "green", failed: "red", skipped: "yellow" } as const;
  const rows = [
    [painted(ok ? "passed" : "failed", ok ? "green" : "red", colours), `drill ${id} of backup ${backup ?? "none"}`],
    ["recovery point", `${recoveryPoint(drill)} on timeline ${timeline ?? "unknown"}${commit}`],
    ["recovery time", `restore ${took(restoreSeconds)}, recovery ${took(recoverySeconds)}`],
    ...drill.checks.map(({ name, outcome, message }) => [
      painted(outcome, colour[outcome], colours),
      `${name}: ${message}`,
    ]),
    ...(folder === undefined ? [] : [["kept", `${folder}/data`]]),
    ...(unremoved === undefined ? [] : [[painted("not removed", "yellow", colours), unremoved.message]]),
    ...(unrecorded === undefined
      ? []
      : [[painted("not recorded", "yellow", colours), `${unrecorded.message}. ${unrecorded.hint}`]]),
  ];
  return columns(rows, width).join("\n");
}

/** Recovery may reach further than was promised: WAL is archived while the drill runs. Pure. */
export function recoveryPoint({ promisedLsn, reachedLsn }: Pick<Drill, "promisedLsn" | "reachedLsn">): string {
  if (promisedLsn === undefined) return "unknown";
  const promised = formatLsn(promisedLsn);
  if (reachedLsn === undefined) return `not known; ${promised} was promised`;
  if (reachedLsn === promisedLsn) return `${promised}, as promised,`;
  const relation = reachedLsn > promisedLsn ? "beyond" : "short of";
  return `${formatLsn(reachedLsn)}, ${relation} the promised ${promised},`;
}
