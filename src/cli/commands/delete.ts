/** `seawall delete`: deletes one backup, unless it is protected, and names the WAL that no backup needs then. */
import type { Archive } from "../../archive/archive.ts";
import { backupNamed } from "../../archive/backups/named.ts";
import { listBackups } from "../../archive/backups/list.ts";
import { expire, type ExpireOptions, removeUnlisted } from "../../archive/retention/expire.ts";
import { refusedDeletion } from "../../archive/retention/bulk-delete.ts";
import { type Decide, type PlannedExpiry, planExpiry, readNewer } from "../../archive/retention/expiry-plan.ts";
import { isInForce, listPins } from "../../archive/backups/pins.ts";
import { planDeletion } from "../../archive/retention/plan.ts";
import { settledMs } from "../../archive/retention/keep.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { type CommandContext, printResult } from "../context.ts";
import { expiredJson, expiredText, planJson, walLines } from "../views/expiry.ts";
import { backupArgument } from "./pin.ts";
import { findGenerationOf, withGenerations } from "../with-archive.ts";
import { humanBytes } from "../../daemon/status/human.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, args } = context;
  const named = backupArgument(args[0]);
  const now = new Date();
  return withGenerations(context, { verb: "deleting" }, async (generations, progress) => {
    const request = { signal: signals.stop };
    const { archive, newer } = await findGenerationOf(generations, named, request);
    const id = await backupNamed(archive, named, request);
    const decide: Decide = (facts) => planDeletion(facts, { id, force: settings.force }, now);
    const readAgain = newer.length === 0 ? undefined : async () => readNewer(newer, request);
    const onDeleted = (_: number, bytes: number): void => progress.advance(bytes);
    const options = {
      ...request,
      decide,
      readNewer: readAgain,
      now: () => new Date(),
      withWal: false,
      onDeleted,
    };
    const planned = await planExpiry(archive, decide, { ...request, newer: await readAgain?.() });
    if (!planned.facts.backups.some((backup) => backup.id === id))
      return await deleteUnlisted(context, archive, id, {
        ...options,
        now: () => new Date(settledMs(planned.facts, new Date())),
      });
    refuseProtected(planned, id);
    const unneeded = walLines(planned);
    const [target] = planned.plan.goes;
    const size = humanBytes(target?.storedBytes ?? 0);
    if (settings.dryRun) {
      const text = [`Backup ${id} would go, ${size}.`, "", "WAL without it:", ...unneeded.map((line) => `  ${line}`)];
      await printResult(context, { dryRun: true, ...planJson(planned) }, text.join("\n"));
      return EXIT.done;
    }
    progress.begin(target?.storedBytes);
    const expired = await expire(archive, planned, options).finally(() => progress.end());
    const isGone = expired.removed.length > 0;
    const isWhollyGone = isGone && expired.remains.length === 0;
    const text = [
      ...(isWhollyGone ? [`Backup ${id} is gone.`] : []),
      ...(isGone ? ["WAL without it; the next expiry removes what no backup needs:"] : []),
      ...(isGone ? unneeded.map((line) => `  ${line}`) : []),
      ...expiredText(expired),
    ];
    await printResult(context, { dryRun: false, ...planJson(planned), ...expiredJson(expired) }, text.join("\n"));
    const failure = refusedDeletion(expired);
    if (failure !== undefined) throw failure;
    return isGone ? EXIT.done : EXIT.no;
  });
}

function refuseProtected({ plan }: PlannedExpiry, id: string): void {
  const kept = plan.keeps.find(({ backup }) => backup.id === id);
  if (kept === undefined) return;
  const kinds = kept.reasons.map(({ kind }) => kind);
  throw new SeawallError(
    "backup-protected",
    `backup ${id} must stay: ${kept.reasons.map(({ text }) => text).join("; ")}`,
    {
      hint: kinds.includes("pinned")
        ? `Unpin it first: seawall unpin ${id}.`
        : kinds.includes("last-good")
          ? "Take another backup first; --force deletes it all the same."
          : "Delete what builds on it first.",
    },
  );
}

/** A backup whose document cannot be read, or one that was never finished: with --force. */
async function deleteUnlisted(
  context: CommandContext,
  archive: Archive,
  id: string,
  options: ExpireOptions,
): Promise<number> {
  const { settings } = context;
  const request = { signal: options.signal };
  const { leftovers, damaged } = await listBackups(archive, request);
  const broken = damaged.find((other) => other.id === id);
  if (broken === undefined && !leftovers.some((other) => other.id === id)) {
    throw new SeawallError("backup-absent", `there is no backup ${id} of "${archive.cluster}"`);
  }
  const what = broken === undefined ? "is not finished, and may still be taken" : `cannot be read`;
  const pin = (await listPins(archive, request)).find(({ backup }) => backup === id);
  if (pin !== undefined && isInForce(pin, options.now())) {
    throw new SeawallError("backup-protected", `backup ${id} must stay: it is pinned`);
  }
  if (!settings.force && !settings.dryRun) {
    throw new SeawallError("backup-protected", `backup ${id} ${what}`, {
      cause: broken?.error,
      hint:
        broken === undefined
          ? "An expiry removes it when nothing has been added to it for a day; --force does so now."
          : "--force deletes it.",
    });
  }
  if (settings.dryRun) {
    await printResult(context, { dryRun: true, goes: [{ id }] }, `Backup ${id} would go: it ${what}.`);
    return EXIT.done;
  }
  const { objects, bytes, hidden, refused, refusals } = await removeUnlisted(archive, id, options);
  const left = refused === 0 ? { leftovers: [id], remains: [] } : { leftovers: [], remains: [id] };
  const result = { removed: [], ...left, spared: [], walStaysBecause: undefined };
  const expired = { ...result, objects, bytes, hidden, refused, refusals };
  const text = [...(refused === 0 ? [`Backup ${id} is gone.`] : []), ...expiredText(expired)];
  await printResult(context, { dryRun: false, ...expiredJson(expired) }, text.join("\n"));
  const failure = refusedDeletion(expired);
  if (failure !== undefined) throw failure;
  return EXIT.done;
}
