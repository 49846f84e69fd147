/**
 * Shows times to people: in the time zone of the process, with its distance from UTC, so that --target-time takes them as they are.
 * JSON, logs and error messages have UTC.
 */

/** `2026-11-30 09:00:07+01:00`, with the fraction of the second if it is to be exact. Behind the time stands `Z` where the zone is UTC. A text that is no time is shown as it is. */
export function shownTime(iso: string, precision: "exact" | "second" | "minute" = "second"): string {
  const at = new Date(iso);
  const ms = at.getTime();
  if (Number.isNaN(ms)) return iso;
  const offset = -at.getTimezoneOffset();
  const local = new Date(ms + offset * 60_000).toISOString();
  const fraction = precision === "exact" ? (/\.\d+/.exec(iso)?.[0] ?? "") : "";
  return local.slice(0, precision === "minute" ? 16 : 19).replace("T", " ") + fraction + zone(offset);
}

function zone(offsetMinutes: number): string {
  if (offsetMinutes === 0) return "Z";
  const minutes = Math.abs(offsetMinutes);
  const two = (number: number): string => String(number).padStart(2, "0");
  return `${offsetMinutes < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** A sentence with its times as people are shown them. */
export function shownTimesIn(sentence: string): string {
  return sentence.replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (iso) => shownTime(iso, "exact"));
}
