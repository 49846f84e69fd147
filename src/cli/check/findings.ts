/** The findings of `check`, and the judgements on a server's facts: a table of rules, each a pure function. */
import { SeawallError } from "../../errors.ts";
import { type MemoryLimits, memoryNeeded } from "../../receive/memory.ts";
import type { SlotStatus } from "../../receive/status.ts";
import { humanBytes, humanSeconds, versionText } from "../../daemon/status/human.ts";
import { createRole } from "../../replication/server-setup.ts";
import { isNewerServer, receivableMajor } from "../../replication/server-version.ts";

export type Verdict = "ok" | "warn" | "fail" | "skip";

export interface Finding {
  readonly group: "server" | "slot" | "store";
  readonly name: string;
  readonly verdict: Verdict;
  readonly message: string;
  /** The remedy; null when nothing needs to be done. */
  readonly remedy: string | null;
}

/** The server's facts; settings as SHOW prints them, undefined where this version has no such setting. */
export interface ServerFacts {
  readonly server: string;
  readonly user: string;
  readonly applicationName: string;
  readonly tls: boolean;
  readonly serverVersion: number;
  readonly inRecovery: boolean;
  readonly segmentSize: number;
  readonly settings: ReadonlyMap<string, string>;
  /** Undefined: no ordinary connection, so this is not known. */
  readonly sql: SqlFacts | undefined;
}

export interface SqlFacts {
  readonly superuser: boolean;
  readonly walSenders: number;
  readonly slots: number;
  readonly slot: SlotStatus | undefined;
  /** Server's clock minus ours, at the middle of the round trip. */
  readonly clockAheadSeconds: number;
}

/** Options that the receiver would have. */
export interface Wishes {
  /** Undefined: --no-slot. */
  readonly slot: string | undefined;
  /** `--allow-newer-server`. */
  readonly allowsNewer: boolean;
  readonly statusIntervalMs: number;
  readonly memory: MemoryLimits;
  readonly hasSpool: boolean;
  readonly codecThreads: number;
  /** Memory that the operating system lets this process have. */
  readonly memoryLimitBytes: number;
}

type Judgement = { readonly verdict: Verdict; readonly message: string; readonly remedy?: string };
/** Undefined: does not apply. */
type Judge = (facts: ServerFacts, wishes: Wishes) => Judgement | undefined;

const ok = (message: string): Judgement => ({ verdict: "ok", message });
const warn = (message: string, remedy: string): Judgement => ({ verdict: "warn", message, remedy });
const fail = (message: string, remedy: string): Judgement => ({ verdict: "fail", message, remedy });
const alter = (setting: string, value: string, then: "reload" | "restart"): string =>
  `ALTER SYSTEM SET ${setting} = ${value}; then ${then === "reload" ? "SELECT pg_reload_conf();" : "restart the server."}`;

/** Warns where a setting is off. */
const betterOn =
  (setting: string, message: string, remedy: string): Judge =>
  ({ settings }) =>
    settings.get(setting) === "off" ? warn(message, remedy) : ok("on");

const CLOCK_SKEW_WARN_SECONDS = 2;

/** By group and name, in the order in which they are shown. */
const RULES: Readonly<Record<"server" | "slot", Readonly<Record<string, Judge>>>> = {
  server: {
    version: ({ serverVersion }, wishes) => judgeVersion(serverVersion, wishes),
    role: ({ user, sql }) => {
      if (sql?.superuser !== true) return ok(`${user} may replicate`);
      return warn(`${user} is a superuser; REPLICATION is all that is needed`, createRole("seawall"));
    },
    recovery: ({ inRecovery }) =>
      inRecovery
        ? warn(
            "this server is a standby",
            "Archive the primary where you can: a standby passes WAL on later, and stops to when it is promoted or falls behind.",
          )
        : ok("this server is a primary"),
    wal_level: ({ settings }) => {
      const level = settings.get("wal_level") ?? "";
      return level === "minimal" ? fail(`wal_level is ${level}`, alter("wal_level", "replica", "restart")) : ok(level);
    },
    max_wal_senders: (facts) => judgeHeadroom(facts, "max_wal_senders", facts.sql?.walSenders, "WAL senders"),
    max_replication_slots: (facts, { slot }) => {
      const needed = slot !== undefined && facts.sql?.slot?.exists !== true;
      if (!needed) return ok(`${facts.settings.get("max_replication_slots") ?? "?"}, ours is among them`);
      return judgeHeadroom(facts, "max_replication_slots", facts.sql?.slots, "replication slots");
    },
    wal_sender_timeout: judgeSenderTimeout,
    full_page_writes: betterOn(
      "full_page_writes",
      "full_page_writes is off: a base backup taken while the server writes may hold torn pages",
      alter("full_page_writes", "on", "reload"),
    ),
    fsync: betterOn(
      "fsync",
      "fsync is off: a crash of the machine can corrupt the cluster, and what it archives afterwards",
      alter("fsync", "on", "reload"),
    ),
    data_checksums: betterOn(
      "data_checksums",
      "data checksums are off: damage in data files goes unnoticed into backups",
      "Stop the server and run pg_checksums --enable.",
    ),
    archive_mode: ({ settings }) =>
      settings.get("archive_mode") === "off"
        ? ok("off: streaming does not need it")
        : ok(`${settings.get("archive_mode") ?? "?"}: not needed; an archive_command beside the receiver does no harm`),
    wal_segment_size: judgeMemory,
    synchronous_standby_names: judgeSynchronous,
    clock: ({ sql }) => {
      if (sql === undefined) return undefined;
      const skew = Math.abs(sql.clockAheadSeconds);
      if (skew <= CLOCK_SKEW_WARN_SECONDS) return ok(`within ${humanSeconds(CLOCK_SKEW_WARN_SECONDS)} of ours`);
      const direction = sql.clockAheadSeconds > 0 ? "ahead of" : "behind";
      return warn(
        `the server's clock is ${humanSeconds(skew)} ${direction} ours`,
        "Synchronise both with NTP: times in status and in recovery targets are wrong by as much.",
      );
    },
  },
  slot: {
    slot: judgeSlot,
    max_slot_wal_keep_size: judgeKeepSize,
    idle_replication_slot_timeout: ({ settings }, { slot }) => {
      const timeout = settings.get("idle_replication_slot_timeout");
      if (timeout === undefined || slot === undefined) return undefined;
      if (timeout === "0") return ok("off");
      return warn(
        `the server gives a slot up that is idle for ${timeout}`,
        alter("idle_replication_slot_timeout", "0", "reload"),
      );
    },
  },
};

/** Every rule that applies, in order. Pure. */
export function judgeServer(facts: ServerFacts, wishes: Wishes): Finding[] {
  const connection: Finding = {
    group: "server",
    name: "connection",
    verdict: "ok",
    message: `${facts.server} as ${facts.user}, ${facts.tls ? "with TLS" : "without TLS"}`,
    remedy: null,
  };
  const judged = (["server", "slot"] as const).flatMap((group) =>
    Object.entries(RULES[group]).flatMap(([name, judge]): Finding[] => {
      const judgement = judge(facts, wishes);
      return judgement === undefined ? [] : [{ group, name, remedy: null, ...judgement }];
    }),
  );
  return [connection, ...judged];
}

function judgeVersion(serverVersion: number, wishes: Wishes): Judgement {
  try {
    receivableMajor(serverVersion, wishes);
  } catch (error) {
    if (!(error instanceof SeawallError)) throw error;
    return fail(error.message, error.hint);
  }
  if (!isNewerServer(serverVersion)) return ok(`PostgreSQL ${versionText(serverVersion)}`);
  return warn(
    `PostgreSQL ${versionText(serverVersion)} is newer than this Seawall knows: WAL is archived without reading its records`,
    "Upgrade Seawall before you need a backup or a restore (docs/versions.md).",
  );
}

/** One free is what the receiver takes; none left for a base backup or a reconnect beside a dead connection is worth a word. */
function judgeHeadroom(facts: ServerFacts, setting: string, used: number | undefined, what: string): Judgement {
  const max = Number(facts.settings.get(setting) ?? 0);
  if (used === undefined) return { verdict: "skip", message: `${max}; how many are in use is not known` };
  const free = max - used;
  const text = `${used} of ${max} ${what} in use`;
  const remedy = alter(setting, String(max + 5), "restart");
  if (free < 1) return fail(text, remedy);
  return free < 2 ? warn(`${text}: none to spare`, remedy) : ok(text);
}

/** A receiver that is killed for its memory stops archiving. */
function judgeMemory({ segmentSize }: ServerFacts, { memory, memoryLimitBytes: limit, ...wishes }: Wishes): Judgement {
  const needed = memoryNeeded(segmentSize, memory, wishes);
  const text = `segments of ${humanBytes(segmentSize)}: receive takes up to ${humanBytes(needed)} of memory`;
  if (needed <= limit) return ok(text);
  return warn(
    `${text}, and this process may take ${humanBytes(limit)}`,
    "Raise the limit (MemoryMax of the service, resources.limits.memory of the container), or lower --buffer-max.",
  );
}

function judgeSenderTimeout({ settings }: ServerFacts, { statusIntervalMs }: Wishes): Judgement {
  const timeoutMs = Number(settings.get("wal_sender_timeout") ?? 0);
  if (timeoutMs === 0) return ok("off: the server keeps a dead connection, and the slot busy, until TCP notices");
  const text = `${humanSeconds(timeoutMs / 1000)}, we report every ${humanSeconds(statusIntervalMs / 1000)}`;
  if (timeoutMs < 1000)
    return warn(
      `${text}: a short pause of the network drops the connection`,
      alter("wal_sender_timeout", "'60s'", "reload"),
    );
  return statusIntervalMs <= timeoutMs / 2
    ? ok(text)
    : ok(`${text}; the receiver will report every third of the timeout instead`);
}

function judgeSynchronous({ settings, applicationName }: ServerFacts): Judgement {
  const names = settings.get("synchronous_standby_names") ?? "";
  if (names.trim() === "") return ok("empty: commits do not wait for Seawall");
  const listed = names
    .replaceAll(/^(FIRST|ANY)\b|\d+\s*\(|[()]/gi, " ")
    .split(",")
    .map((name) => name.trim().replaceAll('"', ""));
  const ours = listed.some((name) => name === "*" || name.toLowerCase() === applicationName.toLowerCase());
  return ours
    ? ok(`${names}: commits may wait for us (application_name ${applicationName}); run receive with --synchronous`)
    : ok(`${names}: commits wait for others, not for ${applicationName}`);
}

function judgeSlot({ sql }: ServerFacts, { slot: name }: Wishes): Judgement {
  if (name === undefined) {
    return warn(
      "streaming without a slot: the server may recycle WAL before it is stored",
      "Leave --no-slot out, or set wal_keep_size generously.",
    );
  }
  const slot = sql?.slot;
  if (slot === undefined) return { verdict: "skip", message: `"${name}": not looked at` };
  if (!slot.exists) return ok(`"${name}" is not there yet; receive creates it (or seawall slot create)`);
  const retained = slot.retainedBytes === null ? "" : `, keeps ${humanBytes(slot.retainedBytes)} of WAL`;
  const text = `"${name}" is ${slot.walStatus ?? "without WAL"}${retained}${slot.active === true ? ", in use now" : ""}`;
  const anew =
    "Run seawall slot drop and seawall slot create, then take a new base backup: WAL is missing from the archive.";
  if (slot.walStatus === "lost") return fail(text, anew);
  if (slot.restartLsn === null)
    return warn(`${text}: it reserves nothing`, "Start the receiver, or drop the slot and run seawall slot create.");
  if (slot.walStatus === "unreserved")
    return warn(
      `${text}: WAL may be removed at the next checkpoint`,
      "Start the receiver now, and raise max_slot_wal_keep_size.",
    );
  return ok(text);
}

function judgeKeepSize({ settings, sql }: ServerFacts, { slot }: Wishes): Judgement | undefined {
  if (slot === undefined) return undefined;
  const limit = settings.get("max_slot_wal_keep_size") ?? "-1";
  if (limit === "-1") {
    return warn(
      "no limit: while the receiver is away WAL grows until the server's disk is full",
      "Alert on seawall_slot_retained_bytes, or set max_slot_wal_keep_size to what the disk can spare.",
    );
  }
  const safe = sql?.slot?.safeBytes;
  const left = safe === undefined || safe === null ? "" : `, ${humanBytes(Math.max(0, safe))} of it left`;
  return ok(`${limit}${left}: beyond that the server gives the slot up, and WAL is lost to the archive`);
}
