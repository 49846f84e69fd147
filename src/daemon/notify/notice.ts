/** A notice, one fact worth reporting, and the body in which it is sent. Pure. */
import { createHash } from "node:crypto";
import { isNoticeEvent, NOTICE_EVENTS, type NoticeEventName, type Severity } from "../../config/notify-events.ts";

export interface Notice {
  readonly event: NoticeEventName;
  /** The subject: `receiver`, `slot`, `job verify`. One state is remembered for each. */
  readonly subject: string;
  /**
   * The report on the subject. The same state again is no news, until it has lasted for a day; an `end` is news only after
   * a state; what happens `once` is news once.
   */
  readonly kind: "state" | "end" | "once";
  readonly state: string;
  /** When it happened. */
  readonly at: Date;
  /** One sentence, without the name of the cluster. */
  readonly text: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface Sender {
  readonly cluster: string;
  readonly systemIdentifier: string | null;
  readonly host: string;
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string;
}

/** The JSON shape: stable, extended only (docs/notifications.md). */
export interface NoticeBody {
  readonly version: 1;
  /** Stays the same over retries, and when the same problem is reported twice. */
  readonly id: string;
  readonly event: NoticeEventName;
  readonly severity: Severity;
  readonly cluster: string;
  readonly systemIdentifier: string | null;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly host: string;
  readonly text: string;
  readonly details: Readonly<Record<string, unknown>>;
}

const TEXT_CHARACTERS_MAX = 1000;

export function bodyOf(notice: Notice, sender: Sender): NoticeBody {
  const { event, at, text, details } = notice;
  const { cluster, systemIdentifier, host, scrub } = sender;
  return {
    version: 1,
    id: noticeId(notice, cluster, host),
    event,
    severity: NOTICE_EVENTS[event].severity,
    cluster,
    systemIdentifier,
    at: at.toISOString(),
    host,
    text: scrub(`Seawall ${cluster}: ${text}`).slice(0, TEXT_CHARACTERS_MAX),
    // A cast: what goes in as an object comes out as one.
    details: scrubbed(details, scrub) as Readonly<Record<string, unknown>>,
  };
}

/** Makes the id. For what happens once it follows from the matter; a state may come again, so its time and place count. */
export function noticeId({ event, subject, state, kind, at }: Notice, cluster: string, host: string): string {
  const parts = [cluster, event, subject, state, ...(kind === "once" ? [] : [host, at.toISOString()])];
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  return `${event}-${digest.slice(0, 20)}`;
}

function scrubbed(value: unknown, scrub: (text: string) => string): unknown {
  if (typeof value === "string") return scrub(value);
  if (Array.isArray(value)) return value.map((item) => scrubbed(item, scrub));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, scrubbed(inner, scrub)]));
}

/** Whether `notify-events` wants it. */
export function isWanted(event: NoticeEventName, events: string): boolean {
  if (events === "all" || event === "test") return true;
  const names = events.split(",");
  const isExcluding = names[0]?.startsWith("-") === true;
  const named = names.map((name) => name.replace(/^-/, "")).filter(isNoticeEvent);
  return named.includes(event) !== isExcluding;
}

/**
 * Takes known secrets out, and what looks like one by its place. A password such as `main`, which is an ordinary word, is taken out
 * only where a label says what it is: elsewhere it would take words out of every text, and its mere sight tells nothing.
 */
export function scrubber(secrets: readonly (string | undefined)[], shapes: (text: string) => string): Sender["scrub"] {
  const known = secrets
    .filter((secret): secret is string => secret !== undefined && secret !== "")
    .sort((a, b) => b.length - a.length)
    .map(patternOf);
  return (text) =>
    known.reduce((rest, pattern) => rest.replaceAll(pattern, (_, label?: unknown) => shown(label)), shapes(text));
}

function shown(label: unknown): string {
  return `${typeof label === "string" ? label : ""}[redacted]`;
}

/** A secret of this length is part of no other word; with mixed characters, a shorter one is not either. */
const LONG_MIN = 16;
const MIXED_MIN = 8;
/** Ordinary words and numbers are at most this long. */
const ORDINARY_MAX = 11;
/** Letters as texts have them, perhaps joined by dashes; a number; or nothing but signs. */
const ORDINARY = /^(\p{Lu}?[\p{Ll}_-]+|\p{Lu}+|\p{N}+|[^\p{L}\p{N}]+)$/u;
const LABEL = "((?:password|passphrase|passwd|secret|token|key|bearer|basic)(?:\\s+is)?[\\s:=\"'`]+)";

function patternOf(secret: string): RegExp {
  const literal = secret.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  const isPlain = ORDINARY.test(secret);
  if (secret.length >= (isPlain ? LONG_MIN : MIXED_MIN)) return new RegExp(literal, "gu");
  const token = `(?<![\\p{L}\\p{N}_])${literal}(?![\\p{L}\\p{N}_])`;
  return isPlain && secret.length <= ORDINARY_MAX ? new RegExp(LABEL + token, "giu") : new RegExp(token, "gu");
}
