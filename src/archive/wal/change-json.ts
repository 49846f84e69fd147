/** Changes of tablespaces and settings (wal/wal-changes.ts) as a segment's envelope holds them. Pure. */
import { formatLsn, parseLsn } from "../../wal/lsn.ts";
import { STANDBY_SETTINGS, type StandbySetting, type WalChange } from "../../wal/wal-changes.ts";

/** More would leave too little of an envelope (ENVELOPE_BYTES_MAX) for the rest of it. */
const JSON_BYTES_MAX = 4_096;

/**
 * For a segment's envelope; undefined when they do not fit, or a location is not known: then readers look at the records.
 * Shapes: docs/archive-format.md.
 */
export function changesJson(changes: readonly WalChange[] | undefined): readonly unknown[] | undefined {
  if (changes === undefined) return undefined;
  if (changes.some((change) => change.kind === "tablespace-created" && change.location === undefined)) return undefined;
  const json = changes.map((change) => ({ ...change, lsn: formatLsn(change.lsn), end: formatLsn(change.end) }));
  return Buffer.byteLength(JSON.stringify(json)) > JSON_BYTES_MAX ? undefined : json;
}

/** The inverse; undefined for anything else, so that the records are asked. Throws `usage` for an LSN that is none. */
export function parseChanges(json: unknown): WalChange[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const changes = json.map((item: unknown) => parseChange(item));
  return changes.every((change) => change !== undefined) ? changes : undefined;
}

function parseChange(item: unknown): WalChange | undefined {
  if (typeof item !== "object" || item === null) return undefined;
  const { kind, lsn, end, oid, location, walLevel, settings } = item as Readonly<Record<string, unknown>>;
  if (typeof lsn !== "string" || typeof end !== "string") return undefined;
  const place = { lsn: parseLsn(lsn), end: parseLsn(end) };
  if (kind === "parameters") {
    const values = settingsOf(settings);
    const isLevel = walLevel === "minimal" || walLevel === "replica" || walLevel === "logical";
    return isLevel && values !== undefined ? { kind, ...place, walLevel, settings: values } : undefined;
  }
  if (typeof oid !== "number") return undefined;
  if (kind === "tablespace-dropped") return { kind, ...place, oid };
  if (kind !== "tablespace-created" || typeof location !== "string") return undefined;
  return { kind, ...place, oid, location };
}

function settingsOf(json: unknown): Record<StandbySetting, number> | undefined {
  if (typeof json !== "object" || json === null) return undefined;
  const given = json as Readonly<Record<string, unknown>>;
  const pairs = STANDBY_SETTINGS.map((name) => [name, given[name]] as const);
  if (!pairs.every(([, value]) => typeof value === "number")) return undefined;
  return Object.fromEntries(pairs) as Record<StandbySetting, number>; // every name has its number
}
