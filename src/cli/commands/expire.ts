/** `seawall expire`: prints the plan and deletes what the policy does not keep; with --dry-run prints only. */
import type { Archive } from "../../archive/archive.ts";
import type { Generation } from "../../archive/generations.ts";
import type { RetentionPolicy } from "../../archive/retention/model.ts";
import { expire, type Expired } from "../../archive/retention/expire.ts";
import { refusedDeletion } from "../../archive/retention/bulk-delete.ts";
import { type Decide, type PlannedExpiry, planExpiry, readNewer } from "../../archive/retention/expiry-plan.ts";
import { isPolicy, planRetention } from "../../archive/retention/plan.ts";
import type { Settings } from "../../config/options.ts";
import { formatDuration } from "../../config/types.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { type CommandContext, printResult } from "../context.ts";
import { expiredJson, expiredText, planJson, planText } from "../views/expiry.ts";
import type { Progress } from "../views/progress.ts";
import { withGenerations } from "../with-archive.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings } = context;
  const policy = policyOf(settings);
  if (!isPolicy(policy)) {
    throw new SeawallError("usage", "seawall expire needs a retention policy", {
      hint: "Give at least one of --keep-full, --recovery-window, --keep-daily, --keep-weekly, --keep-monthly and --keep-yearly.",
    });
  }
  const now = new Date();
  const decide: Decide = (facts) => planRetention(facts, policy, now);
  return withGenerations(context, { verb: "expiring" }, async ({ all, named }, progress) => {
    const outcomes: Outcome[] = [];
    // The newest first: an older one goes only as far as the newer ones hold what the rules ask for.
    for (const { generation, archive } of named.toReversed()) {
      const newer = all.filter((other) => other.generation.number > generation.number).map((other) => other.archive);
      const job = { archive, newer, decide, progress };
      outcomes.push({ generation, ...(await expireOne(context, job)) });
    }
    await print(context, policy, outcomes);
    for (const { expired } of outcomes) {
      const failure = expired === undefined ? undefined : refusedDeletion(expired);
      if (failure !== undefined) throw failure;
    }
    return EXIT.done;
  });
}

interface Outcome {
  readonly generation: Generation;
  readonly planned: PlannedExpiry;
  readonly expired: Expired | undefined;
}

/** Plans the expiry of one generation, and carries it out without --dry-run. */
async function expireOne(
  { settings, signals }: CommandContext,
  job: {
    readonly archive: Archive;
    readonly newer: readonly Archive[];
    readonly decide: Decide;
    readonly progress: Progress;
  },
): Promise<Pick<Outcome, "planned" | "expired">> {
  const { archive, newer, decide, progress } = job;
  const request = { signal: signals.stop };
  const readAgain = newer.length === 0 ? undefined : async () => readNewer(newer, request);
  const planned = await planExpiry(archive, decide, { ...request, newer: await readAgain?.() });
  if (settings.dryRun) return { planned, expired: undefined };
  progress.begin(planned.storedBytes);
  const onDeleted = (_: number, bytes: number): void => progress.advance(bytes);
  const options = { ...request, decide, readNewer: readAgain, now: () => new Date(), withWal: true, onDeleted };
  return { planned, expired: await expire(archive, planned, options).finally(() => progress.end()) };
}

/** `outcomes`: the newest generation first. */
async function print(context: CommandContext, policy: RetentionPolicy, outcomes: readonly Outcome[]): Promise<void> {
  const [newest] = outcomes;
  if (newest === undefined) return;
  const shown = Object.fromEntries(policyRules(policy));
  const jsonOf = ({ planned, expired }: Outcome): object => ({ ...planJson(planned), ...expiredJson(expired) });
  const json = {
    cluster: context.settings.cluster,
    dryRun: newest.expired === undefined,
    policy: shown,
    ...jsonOf(newest),
    generations: outcomes.map((one) => ({ generation: one.generation.name, ...jsonOf(one) })),
  };
  const rules = policyRules(policy)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const several = outcomes.length > 1;
  const parts = outcomes.map(({ generation, planned, expired }) =>
    [
      ...(several ? [`${generation.name}, PostgreSQL ${generation.identity.pgMajor}:`] : []),
      planText(planned, context.io.width, several ? generation.name : undefined),
      ...expiredText(expired, planned),
    ].join("\n"),
  );
  await printResult(context, json, [`policy: ${rules}`, ...parts].join("\n\n"));
}

/** Reads the policy from the settings; the daemon uses it too. */
export function policyOf(settings: Settings): RetentionPolicy {
  const { keepFull, recoveryWindowMs, keepDaily, keepWeekly, keepMonthly, keepYearly } = settings;
  return { keepFull, recoveryWindowMs, keepDaily, keepWeekly, keepMonthly, keepYearly };
}

function policyRules(policy: RetentionPolicy): [string, string | number][] {
  const { recoveryWindowMs } = policy;
  const rules: [string, string | number | undefined][] = [
    ["keep-full", policy.keepFull],
    ["recovery-window", recoveryWindowMs === undefined ? undefined : formatDuration(recoveryWindowMs)],
    ["keep-daily", policy.keepDaily],
    ["keep-weekly", policy.keepWeekly],
    ["keep-monthly", policy.keepMonthly],
    ["keep-yearly", policy.keepYearly],
  ];
  return rules.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
}
