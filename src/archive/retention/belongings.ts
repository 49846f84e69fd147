/** Tells which objects below a cluster's prefix are the archive's own, and in which step of a removal each one goes. Pure. */
import {
  backupDocumentKey,
  identityKey,
  isBackupId,
  isBackupObject,
  parseBreakKey,
  parseChunkKey,
  parseEncryptionKey,
  parseExpiringKey,
  parseGapKey,
  parseLineKey,
  parsePinKey,
  parseWalKey,
} from "../keys.ts";

/**
 * The steps of a removal, in their order. Without its documents no backup counts, so these go first. The identity goes last:
 * until then the archive can be opened and the removal goes on.
 */
export const REMOVAL_STEPS = ["backup documents", "backups", "records", "WAL", "history", "identity"] as const;
export type RemovalStep = (typeof REMOVAL_STEPS)[number];

/** Undefined for an object that is not the archive's: it stays. */
export function removalStepOf(cluster: string, key: string, segmentSize: number): RemovalStep | undefined {
  if (key === identityKey(cluster)) return "identity";
  const [, room = "", ...parts] = key.split("/");
  const name = parts.at(-1) ?? "";
  switch (room) {
    case "backups":
      return backupStep(cluster, key, parts[0] ?? "");
    case "wal":
      return walStep(key, name, segmentSize);
    case "tail":
      return parseChunkKey(key, segmentSize) === undefined ? undefined : "WAL";
    case "gaps":
      return parseGapKey(key) === undefined ? undefined : "history";
    case "breaks":
      return parseBreakKey(key) === undefined ? undefined : "history";
    case "line":
      return parseLineKey(key) === undefined ? undefined : "history";
    case "encryption":
      return parseEncryptionKey(key) === undefined ? undefined : "history";
    default:
      return isRecord(key, room, parts) ? "records" : undefined;
  }
}

function backupStep(cluster: string, key: string, id: string): RemovalStep | undefined {
  if (!isBackupId(id)) return undefined;
  if (key === backupDocumentKey(cluster, id)) return "backup documents";
  return isBackupObject(cluster, id, key) ? "backups" : undefined;
}

function walStep(key: string, name: string, segmentSize: number): RemovalStep | undefined {
  // archive_command hands these over; their keys are those of a segment with the offset behind it.
  const segment = /^([0-9A-F]{24})\.[0-9A-F]{8}\.backup$/.exec(name)?.[1];
  const segmentKeyOfIt = segment === undefined ? key : `${key.slice(0, -name.length)}${segment}.zst`;
  const found = parseWalKey(segmentKeyOfIt, segmentSize);
  if (found === undefined) return undefined;
  return found.kind === "history" ? "history" : "WAL";
}

/** `parts` follow the room. */
function isRecord(key: string, room: string, parts: readonly string[]): boolean {
  const name = parts.at(-1) ?? "";
  const isNamedByTime = name.endsWith(".json") && isBackupId(name.slice(0, -".json".length));
  switch (room) {
    case "pins":
      return parsePinKey(key) !== undefined;
    case "expiring":
      return parseExpiringKey(key) !== undefined;
    case "drills":
    case "notices":
      return parts.length === 1 && isNamedByTime;
    case "runs":
      return parts.length === 2 && isNamedByTime;
    case "verify":
      return parts.length === 1 && /^\d{8}T\d{9}Z-[0-9a-f]{8}\.json$/.test(name);
    case "evidence":
      return parts.length === 1 && /^[0-9A-F]{24}-\d+\.zst$/.test(name);
    case "probe":
      return parts.length === 1;
    default:
      return false;
  }
}
