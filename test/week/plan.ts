/** What happens in a week, day by day, drawn from a seed: everything at least once, where there is time, in any order. Pure. */
import type { Random } from "../harness/random.ts";

export type Event =
  | { readonly kind: "backup" }
  /** Killed in the midst of it. */
  | { readonly kind: "broken backup" }
  | { readonly kind: "restore point" }
  /** To a standby that was copied from the primary, or restored from the archive. */
  | { readonly kind: "failover"; readonly how: "stopped" | "killed"; readonly standby: "copied" | "restored" }
  | { readonly kind: "crash" }
  | { readonly kind: "receiver killed" }
  | { readonly kind: "outage" }
  | { readonly kind: "pin"; readonly days: number | undefined }
  | { readonly kind: "unpin" }
  | { readonly kind: "delete" }
  | { readonly kind: "drill" }
  /** The cluster goes back to an earlier point and on from there. */
  | { readonly kind: "recovery" }
  | { readonly kind: "expire"; readonly rules: readonly Rule[]; readonly interrupted: boolean };

export type RuleName = "keep-full" | "recovery-window" | "keep-daily" | "keep-weekly" | "keep-monthly";

export interface Rule {
  readonly name: RuleName;
  /** Backups, or days. */
  readonly count: number;
}

export type Step = Event & {
  /** From the beginning of the week. */
  readonly atMs: number;
  /** Before it: each in a transaction of its own; a segment's worth of other WAL behind them. */
  readonly commits: number;
  readonly fill: boolean;
};

const HOUR_MS = 3_600_000;

export interface Length {
  readonly days: number;
  /** So many of what can happen do. */
  readonly incidents: number;
}

export function planWeek(random: Random, { days, incidents: most }: Length): Step[] {
  const others = shuffled<Event>(random, [
    { kind: "crash" },
    { kind: "receiver killed" },
    { kind: "outage" },
    { kind: "restore point" },
    { kind: "pin", days: random.between(1, 4) },
    { kind: "pin", days: undefined },
    { kind: "unpin" },
    { kind: "delete" },
    { kind: "drill" },
    { kind: "broken backup" },
    ...(days > 7 ? ([{ kind: "delete" }, { kind: "drill" }, { kind: "restore point" }] as const) : []),
  ]);
  const branches: Event[] = [
    {
      kind: "failover",
      how: random.pick<"stopped" | "killed">(["stopped", "killed"]),
      standby: random.pick<"copied" | "restored">(["copied", "restored"]),
    },
    { kind: "recovery" },
    ...(days > 7 ? ([{ kind: "failover", how: "stopped", standby: "restored" }, { kind: "recovery" }] as const) : []),
  ];
  const incidents = shuffled(random, [...branches, ...others].slice(0, most));
  const steps: Step[] = [];
  const at = (day: number, hour: number, event: Event): void => {
    const atMs = (day * 24 + hour) * HOUR_MS + random.between(0, 59) * 60_000;
    steps.push({ ...event, atMs, commits: random.between(1, 3), fill: random.chance(0.6) });
  };
  for (let day = 0; day < days; day++) {
    if (day === 0 || random.chance(0.8)) at(day, 2, { kind: "backup" });
    const todays = incidents.splice(0, Math.ceil(incidents.length / (days - day)));
    for (const [index, event] of todays.entries()) at(day, 6 + index * 5, event);
    if (day > 0 && (day % 2 === 0 || random.chance(0.3))) {
      at(day, 22, { kind: "expire", rules: drawRules(random), interrupted: random.chance(0.4) });
    }
  }
  return steps;
}

function drawRules(random: Random): Rule[] {
  const rules: Rule[] = [
    { name: "keep-full", count: random.between(1, 3) },
    { name: "recovery-window", count: random.between(1, 4) },
    { name: "keep-daily", count: random.between(1, 4) },
    { name: "keep-weekly", count: random.between(1, 2) },
    { name: "keep-monthly", count: 1 },
  ];
  return shuffled(random, rules).slice(0, random.between(1, 3));
}

export function flagsOf(rules: readonly Rule[]): string[] {
  return rules.flatMap(({ name, count }) => [`--${name}`, name === "recovery-window" ? `${count}d` : String(count)]);
}

/** One line for the log. */
export function describeStep({ kind, atMs, commits, fill, ...details }: Step): string {
  const day = Math.floor(atMs / (24 * HOUR_MS));
  const clock = new Date(atMs % (24 * HOUR_MS)).toISOString().slice(11, 16);
  const about = Object.values(details).map((value) =>
    Array.isArray(value) ? flagsOf(value as Rule[]).join(" ") : String(value),
  );
  return `day ${day} ${clock} ${commits} commits${fill ? " and more" : ""}, ${[kind, ...about].join(" ")}`;
}

export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const left = [...items];
  return items.map(() => left.splice(random.between(0, left.length - 1), 1)[0] as T); // never empty
}
