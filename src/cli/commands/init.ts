/**
 * `seawall init`: the first run. Asks or takes what it must know, looks at server and store, writes the configuration with what is
 * to be done elsewhere, takes the first backup if told, and names the next three commands.
 */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { schemeOf } from "../../store/schemes.ts";
import { findingsText } from "../check/run.ts";
import { configurationOf } from "../configuration.ts";
import { type CommandContext, printResult } from "../context.ts";
import { type Answers, answersOf } from "../init/answers.ts";
import { firstBackup, loadedFrom } from "../init/backup.ts";
import { type InitPaths, pathsBeside } from "../init/files.ts";
import { lookAt } from "../init/look.ts";
import { type Plan, planOf } from "../init/plan.ts";
import { reportJson, reportText } from "../init/report.ts";
import { refuseOccupied, refuseUnwritable, writeFiles } from "../init/write.ts";
import { endWithin, GRACE_MS, NOTHING_LOST } from "../last-resort.ts";

export async function run(given: CommandContext): Promise<number> {
  const paths = pathsBeside(resolve(given.settings.initConfig));
  refuseUnwritable(paths);
  if (!given.settings.dryRun) refuseOccupied(paths, given.settings);
  const answers = await answersOf(given);
  const { store, cluster, dsn } = answers;
  const context = { ...given, settings: { ...given.settings, dsn, store, cluster } };
  const { settings, io, log, signals } = context;
  const withinMs = settings.shutdownTimeoutMs + GRACE_MS;
  endWithin({ stop: signals.stop, withinMs, log, usesFiles: schemeOf(store)?.usesFiles === true, hint: NOTHING_LOST });

  const looked = await lookAt(context, dsn, paths.passfile);
  const plan = await planOf(context, looked, paths);
  const shown = findingsText(looked.findings, io);
  const isWritten = !settings.dryRun && (await isWanted(context, { plan, answers, shown }));
  if (isWritten) await write(context, { plan, paths });
  const outcome = { plan, findings: looked.findings, isWritten, isDryRun: settings.dryRun };
  const findings = answers.wasAsked && !plan.ok ? "" : shown;
  const isWanting = isWritten && plan.ok && (await wantsBackup(context, answers));
  const taking = isWanting ? firstBackup(context, paths) : Promise.resolve(undefined);
  const backup = await taking.catch(async (error: unknown) => {
    // The files are written: what they are for and what comes next must not be lost with the backup.
    if (!settings.json) await io.out(`${reportText({ ...outcome, backup: undefined }, findings, io)}\n`);
    throw error;
  });
  await printResult(context, reportJson({ ...outcome, backup }), reportText({ ...outcome, backup }, findings, io));
  return plan.ok ? EXIT.done : EXIT.no;
}

/** Asks before it writes a configuration with which something fails, where the answers were typed. */
async function isWanted(
  { io, signals }: CommandContext,
  { plan, answers, shown }: { readonly plan: Plan; readonly answers: Answers; readonly shown: string },
): Promise<boolean> {
  if (plan.ok || !answers.wasAsked || io.ask === undefined) return true;
  io.err(`\n${shown}\n\n`);
  const answer = await io.ask("Write the files all the same? [Y/n]: ", { signal: signals.stop });
  return !/^n/i.test(answer.trim());
}

async function wantsBackup({ settings, io, signals }: CommandContext, { wasAsked }: Answers): Promise<boolean> {
  if (settings.initBackup || !wasAsked || io.ask === undefined) return settings.initBackup;
  const answer = await io.ask("Take the first base backup now? [y/N]: ", { signal: signals.stop });
  return /^y/i.test(answer.trim());
}

/** The real loader reads the configuration before it gets its name. */
async function write(
  { settings, env, signals }: CommandContext,
  { plan, paths }: { readonly plan: Plan; readonly paths: InitPaths },
): Promise<void> {
  if (signals.stop.aborted) {
    throw new SeawallError("aborted", "cancelled before a file was written", { cause: signals.stop.reason });
  }
  await writeFiles(plan.files, {
    force: settings.force,
    check: async (staged) => {
      const text = await readFile(staged, "utf8");
      const loaded = await loadedFrom(paths.config, "receive", { env, text });
      await configurationOf(loaded, env);
      const { dsn, store, cluster, slot } = loaded.settings;
      const isSame = JSON.stringify({ dsn, store, cluster, slot }) === JSON.stringify(plan.values);
      if (!isSame) throw new SeawallError("internal", "the configuration does not say what it was made of");
    },
  });
}
