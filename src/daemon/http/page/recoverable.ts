/** The first sentence of the page: from when to when the cluster can be recovered, and what losing the server would cost. Pure. */
import { lossText, olderOf, recoveryPointOf, rpoText } from "../../health/loss.ts";
import { growingWindow, hasGapSince } from "../../status/contents.ts";
import type { StatusDocument } from "../../status/document.ts";
import type { MappedWindow, RecoveryMap } from "../../status/recovery-map.ts";
import { type Markup, markup, NOTHING, orLater, timeTag, withTimes } from "./markup.ts";

/** A loss below this counts as "now": the time that WAL is usually on its way. */
const NOW_SECONDS = 60;

export function recoverable(status: StatusDocument, map: RecoveryMap | null): Markup {
  if (map === null) {
    return markup`What can be recovered is not known yet: the archive has not been read. Losing the primary now would lose ${lossOf(status)}.`;
  }
  const windows = map.windows.filter(({ isLine }) => isLine);
  const last = windows.at(-1);
  if (last === undefined) {
    const older = map.backups.length === 0 ? olderOf(status) : null;
    if (older !== null) {
      const { generation, from, to } = older;
      return markup`Recoverable is ${generation} only, from ${timeTag(from)} to ${timeTag(to)}: there is no base backup of the generation after it. Losing the primary now would lose <strong>everything since</strong> ${timeTag(to)}.`;
    }
    const why = map.backups.length === 0 ? "there is no base backup" : "no base backup has the WAL that it needs";
    return markup`Nothing can be recovered: ${why}. Losing the primary now would lose <strong>everything</strong>.`;
  }
  const before = windows.slice(0, -1).slice(-2);
  const also = before.map((window) => markup` Also from ${timeTag(window.fromTime)} to ${windowEnd(window)}.`);
  const from = timeTag(last.fromTime);
  const end = openEnd(status, map);
  if (end === undefined) {
    // WAL that arrives behind a gap is of use only with a newer backup.
    return markup`Recoverable from ${from} to ${windowEnd(last)}; losing the primary now would lose <strong>${last.isUnread === true ? "at most everything since" : "everything since"}</strong> ${timeTag(last.toTime ?? last.fromTime)}.${also}`;
  }
  const until = end.isNow ? markup`<strong>now</strong>` : timeTag(end.at);
  return markup`Recoverable from ${from} to ${until}${end.isAtLeast ? " at least" : ""}; losing the primary now would lose ${lossOf(status)}.${also}`;
}

/** To whom the archive is encrypted, and when a drill last opened it; nothing for a plain one. */
export function encryptionLine({ archive }: Pick<StatusDocument, "archive">): Markup {
  const encryption = archive?.encryption;
  if (encryption === undefined) return NOTHING;
  const { to, provedAt } = encryption;
  const proof =
    provedAt === null
      ? markup`No drill has opened a backup with an identity.`
      : markup`A drill last opened a backup with an identity ${timeTag(provedAt)}.`;
  return markup`<p id="encryption" class="dim">Encrypted to <span class="long">${to.join(", ")}</span>. ${proof}</p>`;
}

/** How far the window that still grows reaches at the time of the status. */
export interface OpenEnd {
  readonly at: string;
  /** True while only WAL that is on its way is missing. */
  readonly isNow: boolean;
  readonly isAtLeast: boolean;
}

/** Undefined when no window grows: without one, or since a gap. */
export function openEnd(status: StatusDocument, map: RecoveryMap | null): OpenEnd | undefined {
  const last = map === null ? undefined : growingWindow(map);
  // A gap that was found after the map was read ends the last window.
  if (map === null || last === undefined || hasGapSince(status, map.readAt)) return undefined;
  const { health, rpoSeconds, at } = status;
  if (rpoSeconds === null) return { at: last.toTime ?? last.fromTime, isNow: false, isAtLeast: true };
  // Everything older than the oldest commit that is not stored can be recovered, and the end of the backup in any case.
  const storedMs = Math.max(Date.parse(last.fromTime), Date.parse(at) - rpoSeconds * 1000);
  const isArriving = !health.findings.some(({ stopsArchiving }) => stopsArchiving);
  return { at: new Date(storedMs).toISOString(), isNow: isArriving && rpoSeconds < NOW_SECONDS, isAtLeast: false };
}

function windowEnd({ fromTime, toTime, isUnread }: MappedWindow): Markup {
  return orLater(timeTag(toTime ?? fromTime), isUnread);
}

function lossOf(status: StatusDocument): Markup {
  const { seconds, limitedBy } = recoveryPointOf(status);
  if (limitedBy === "gap" || limitedBy === "no-backup") return withTimes(lossText(status));
  if (seconds === 0) return markup`no commit`;
  return markup`${rpoText(status) ?? "all that was not stored"}`;
}
