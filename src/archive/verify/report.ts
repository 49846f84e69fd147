/** The findings of a verification, and their meaning for the backups. Pure but for the collecting. */
import type { SeawallError } from "../../errors.ts";
import { counted } from "../../plural.ts";
import { formatLsn, type Lsn, type SegmentNumber, segmentEnd, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import type { WalPath } from "../wal/path.ts";
import { type Cover, unreachableText } from "../catalog/cover.ts";
import { Stretches } from "./encrypted-stretches.ts";
import { backupsOn, type BackupSpan } from "../catalog/windows.ts";

/** docs/archive-format.md, "Verifying", says what each means. */
export type ProblemKind =
  | "missing-wal"
  | "gap"
  | "damaged-wal"
  | "foreign-wal"
  | "damaged-backup"
  | "foreign-backup"
  | "unrestorable-backup"
  | "damaged-document";

export interface Problem {
  readonly kind: ProblemKind;
  /** A key, or the id of a backup. */
  readonly object: string;
  readonly message: string;
}

/** Odd, and no danger to any restore that is possible now. */
export interface Note {
  readonly kind:
    "empty-archive" | "unfinished-backup" | "unknown-object" | "verify-state" | "missing-wal" | "gap" | "encrypted";
  readonly object: string;
  readonly message: string;
}

/** WAL that cannot be read. */
export interface LostWal {
  readonly timeline: TimelineId;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

export interface Checked {
  /** Counts of this run, without what an earlier run has verified and nothing has touched since. */
  segments: number;
  backups: number;
  unchangedSegments: number;
  unchangedBackups: number;
  partials: number;
  tails: number;
  parts: number;
  /** With --deep. */
  records: number;
  files: number;
  readBytes: number;
}

/** More are counted and not kept. */
const FINDINGS_MAX = 10_000;

export class Findings {
  readonly checked: Checked = {
    segments: 0,
    backups: 0,
    unchangedSegments: 0,
    unchangedBackups: 0,
    partials: 0,
    tails: 0,
    parts: 0,
    records: 0,
    files: 0,
    readBytes: 0,
  };
  readonly notes: Note[] = [];
  readonly stretches = new Stretches();
  readonly #problems: (Problem & { readonly lost: LostWal | undefined })[] = [];
  #dropped = 0;
  #locked = 0;
  readonly #lockedTo = new Set<string>();
  #vanished = 0;

  report(problem: Problem, lost?: LostWal): void {
    if (this.#problems.length < FINDINGS_MAX) this.#problems.push({ ...problem, lost });
    else this.#dropped++;
  }

  note(note: Note): void {
    if (this.notes.length < FINDINGS_MAX) this.notes.push(note);
  }

  /** An encrypted object that could be checked from outside alone. */
  noteLocked(to: unknown): void {
    this.#locked++;
    this.#lockedTo.add(String(to));
  }

  /** Says once what was not checked, for want of an identity. `hasIdentity`: one was given, and did not open it. */
  noteUnchecked(cluster: string, { hasIdentity }: { readonly hasIdentity: boolean }): void {
    if (this.#locked === 0) return;
    const reason = hasIdentity ? "the identity that was given is another one" : "give --identity for that";
    const message =
      `${counted(this.#locked, "object")} encrypted to ${[...this.#lockedTo].join(", ")}: ` +
      "what can be checked from outside is right, and what is inside was not read; " +
      reason;
    this.note({ kind: "encrypted", object: cluster, message });
  }

  /** Objects that were listed and then gone. Nothing is said of them: a new listing tells whether they are missed. */
  get vanished(): number {
    return this.#vanished;
  }

  /** A damaged segment, chunk or partial. */
  reportWal(
    key: string,
    error: SeawallError,
    place: { timeline: TimelineId; segment: SegmentNumber; segmentSize: number },
  ): void {
    const { timeline, segment, segmentSize } = place;
    if (error.code === "wal-gap") {
      this.#vanished++;
      return;
    }
    const kind = error.code === "foreign-cluster" ? "foreign-wal" : "damaged-wal";
    const lost = { timeline, fromLsn: segmentStart(segment, segmentSize), toLsn: segmentEnd(segment, segmentSize) };
    this.report({ kind, object: key, message: error.message }, lost);
  }

  /** By object; what is lost of the WAL with what that means. */
  problems(paths: readonly WalPath[], backups: readonly BackupSpan[]): Problem[] {
    const found: Problem[] = this.#problems
      .sort((a, b) => (a.object < b.object ? -1 : a.object > b.object ? 1 : 0))
      .map(({ lost, kind, object, message }) => ({
        kind,
        object,
        message: lost === undefined ? message : `${message}: ${consequence(paths, backups, lost)}`,
      }));
    if (this.#dropped === 0) return found;
    const message = `${this.#dropped} more problems are not listed`;
    return [...found, { kind: "damaged-wal", object: "", message }];
  }
}

/** For WAL that is there and cannot be passed. */
export function breakMessage(lsn: Lsn, reason: string): string {
  return `no recovery passes ${formatLsn(lsn)}: ${reason}`;
}

/** For a gap that is history. `since`: the last time, or the LSN, that can be reached before it. */
export function coveredMessage(since: string, { backup, finishedAt }: Cover): string {
  return `${unreachableText(since, finishedAt)} with backup ${backup}`;
}

/** Words what backups cannot do without this WAL. */
export function consequence(paths: readonly WalPath[], backups: readonly BackupSpan[], lost: LostWal): string {
  const all = affectedBackups(paths, backups, lost);
  const dead = all.filter(({ stopLsn }) => stopLsn > lost.fromLsn);
  const short = all.filter(({ stopLsn }) => stopLsn <= lost.fromLsn);
  const newest = short.at(-1);
  const parts = [
    ...(dead.length === 0 ? [] : [`${dead.map(({ id }) => id).join(", ")} cannot be restored`]),
    ...(newest === undefined ? [] : [`${upTo(newest, short.length)} cannot reach past ${formatLsn(lost.fromLsn)}`]),
  ];
  return parts.length === 0 ? "no backup needs it" : parts.join("; ");
}

/** The backups whose recovery, along some path, meets this WAL; oldest first. */
export function affectedBackups(
  paths: readonly WalPath[],
  backups: readonly BackupSpan[],
  lost: LostWal,
): BackupSpan[] {
  const affected = new Map<string, BackupSpan>();
  for (const path of paths) {
    if (!isOn(path, lost)) continue;
    for (const backup of backupsOn(backups, path.history)) {
      if (backup.startLsn < lost.toLsn) affected.set(backup.id, backup);
    }
  }
  return [...affected.values()].sort((a, b) => (a.stopLsn < b.stopLsn ? -1 : 1));
}

function upTo(newest: BackupSpan, count: number): string {
  return count === 1 ? `backup ${newest.id}` : `${count} backups, up to ${newest.id},`;
}

/** Whether a recovery along the path would read that very WAL, or miss it. */
function isOn({ history, pieces, barriers, segmentSize }: WalPath, { timeline, fromLsn, toLsn }: LostWal): boolean {
  if (timeline !== history.timeline && !history.entries.some((entry) => entry.timeline === timeline)) return false;
  if (barriers.some((barrier) => barrier.fromLsn < toLsn && fromLsn < barrier.toLsn)) return true;
  return pieces.some(
    (piece) =>
      piece.timeline === timeline &&
      segmentStart(piece.first, segmentSize) < toLsn &&
      fromLsn < segmentEnd(piece.last, segmentSize),
  );
}
