/** `seawall expire`: prints the plan and deletes what the policy does not keep; with --dry-run prints only. */
import type { RetentionPolicy } from "../../archive/retention/model.ts";
import { expire, type Expired } from "../../archive/retention/expire.ts";
import { refusedDeletion } from "../../archive/retention/bulk-delete.ts";
import { type Decide, type PlannedExpiry, planExpiry } from "../../archive/retention/expiry-plan.ts";
import { isPolicy, planRetention } from "../../archive/retention/plan.ts";
import type { Settings } from "../../config/options.ts";
import { formatDuration } from "../../config/types.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { type CommandContext, printResult } from "../context.ts";
import { expiredJson, expiredText, planJson, planText } from "../views/expiry.ts";
import { withArchive } from "../with-archive.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals } = context;
  const policy = policyOf(settings);
  if (!isPolicy(policy)) {
    throw new SeawallError("usage", "seawall expire needs a retention policy", {
      hint: "Give at least one of --keep-full, --recovery-window, --keep-daily, --keep-weekly, --keep-monthly and --keep-yearly.",
    });
  }
  const now = new Date();
  const decide: Decide = (facts) => planRetention(facts, policy, now);
  return withArchive(context, { verb: "expiring" }, async (archive, progress) => {
    const request = { signal: signals.stop };
    const planned = await planExpiry(archive, decide, request);
    if (settings.dryRun) {
      await print(context, { planned, policy, expired: undefined });
      return EXIT.done;
    }
    progress.begin(planned.storedBytes);
    const onDeleted = (_: number, bytes: number): void => progress.advance(bytes);
    const options = { ...request, decide, now: () => new Date(), withWal: true, onDeleted };
    const expired = await expire(archive, planned, options).finally(() => progress.end());
    await print(context, { planned, policy, expired });
    const failure = refusedDeletion(expired);
    if (failure !== undefined) throw failure;
    return EXIT.done;
  });
}

interface Outcome {
  readonly planned: PlannedExpiry;
  readonly policy: RetentionPolicy;
  readonly expired: Expired | undefined;
}

async function print(context: CommandContext, { planned, policy, expired }: Outcome): Promise<void> {
  const { cluster } = context.settings;
  const shown = Object.fromEntries(policyRules(policy));
  const json = { cluster, dryRun: expired === undefined, policy: shown, ...planJson(planned), ...expiredJson(expired) };
  const rules = policyRules(policy)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const text = [`policy: ${rules}`, "", planText(planned), ...expiredText(expired, planned)].join("\n");
  await printResult(context, json, text);
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
