/**
 * A copy of the alert rules in which time runs faster, so that a test sees an alert fire and clear within a minute: every
 * duration (`for: 5m`, `[1h]`) is divided by 60, every threshold in seconds by 120, and every GiB becomes a MiB. Names,
 * labels, and texts stay.
 */
import { parse, stringify } from "yaml";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

const FASTER = 60;
const LOWER = 120;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

export function hastenedRules(text: string): string {
  const { groups } = parse(text) as RuleFile;
  return stringify({ groups: groups.map((group) => ({ ...group, rules: group.rules.map(hastened) })) });
}

function hastened(rule: Rule): Rule {
  const isInSeconds = /_seconds\b(?!_count)/.test(rule.expr);
  const expr = rule.expr
    .replaceAll(/\[(\w+)\]/g, (_, duration: string) => `[${faster(duration)}]`)
    .replaceAll("* 1024 * 1024 * 1024", "* 1024 * 1024")
    .replace(/ > ([\d *]+)\s*$/, (found, threshold: string) => (isInSeconds ? ` > (${threshold}) / ${LOWER}` : found));
  return { ...rule, expr, ...(rule.for === undefined ? {} : { for: faster(rule.for) }) };
}

function faster(duration: string): string {
  const [, count = "", unit = "s"] = /^(\d+)([smhd])$/.exec(duration) ?? [];
  // A cast: the pattern allows no other unit. A rate needs several scrapes, which come every second.
  return `${Math.max(1, Math.ceil((Number(count) * SECONDS[unit as keyof typeof SECONDS]) / FASTER))}s`;
}

/** The selectors of an expression, such as `seawall_receiver_state{state="streaming"}`. */
export function selectorsOf(expression: string): string[] {
  return [...expression.matchAll(/\b(?:(?:seawall|process|nodejs)_[a-z_0-9]+|up\b)(?:\{[^}]*\})?/g)].map(
    ([selector]) => selector,
  );
}
