/** `seawall pin`: keeps a base backup, with an end and a reason. */
import { backupNamed, canNameBackup } from "../../archive/backups/named.ts";
import { newestWalMs } from "../../archive/wal/stored-at.ts";
import { putPin } from "../../archive/backups/pins.ts";
import { duration } from "../../config/types.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { parseTargetTime } from "../../restore/target/target.ts";
import { type CommandContext, printResult } from "../context.ts";
import { withArchive } from "../with-archive.ts";
import { shownTime } from "../views/time.ts";

const DAY_MS = 86_400_000;

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, args } = context;
  const named = backupArgument(args[0]);
  if (settings.until !== undefined) parseUntil(settings.until, new Date());
  return withArchive(context, { verb: "pinning", backup: named }, async (archive) => {
    const options = { signal: signals.stop };
    const id = await backupNamed(archive, named, options);
    // An expiry elsewhere goes by a right clock: where this machine's is behind, the newest WAL's date by the store counts.
    const now = new Date(Math.max(Date.now(), (await newestWalMs(archive, options)) ?? 0));
    const expiresAt = settings.until === undefined ? null : parseUntil(settings.until, now).toISOString();
    const pin = { backup: id, pinnedAt: now.toISOString(), expiresAt, note: settings.note ?? "" };
    await putPin(archive, pin, options);
    await printResult(
      context,
      pin,
      `Backup ${id} is pinned${expiresAt === null ? "" : ` until ${shownTime(expiresAt)}`}.`,
    );
    return EXIT.done;
  });
}

/** Throws `usage` for what cannot name a backup. */
export function backupArgument(text: string | undefined): string {
  if (text !== undefined && canNameBackup(text)) return text;
  throw new SeawallError("usage", `"${text ?? ""}" is not the id of a backup`, {
    hint: "An id looks like 20260203T040506Z-0badcafe: seawall list shows them. Four letters of either half are enough where only one fits; latest is the newest.",
  });
}

const longest = duration({ min: 1, max: 100 * 365 * DAY_MS });

/** A date (its end, UTC), a moment with its zone, or a duration from now. Throws `usage`. */
export function parseUntil(text: string, now: Date): Date {
  const trimmed = text.trim();
  const until = /^\d+(\.\d+)? ?[a-z]+$/.test(trimmed)
    ? new Date(now.getTime() + durationOf(trimmed))
    : /^\d{4}-\d\d-\d\d$/.test(trimmed)
      ? new Date(Math.trunc(Number(parseTargetTime(`${trimmed}T00:00:00Z`, now.getTime())) / 1000) + DAY_MS)
      : new Date(Math.trunc(Number(parseTargetTime(trimmed, now.getTime())) / 1000));
  if (until.getTime() > now.getTime()) return until;
  throw new SeawallError("usage", `--until ${text} lies in the past`, {
    hint: "Give a moment to come, or a duration.",
  });
}

function durationOf(text: string): number {
  try {
    return longest.parse(text);
  } catch (cause) {
    const hint = "Write a duration such as 36h or 14d, a date such as 2027-12-31, or a moment with its zone.";
    throw new SeawallError("usage", `--until: ${(cause as Error).message}`, { hint });
  }
}
