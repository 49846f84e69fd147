/**
 * Shows a running backup: its progress as every long command shows it, and its events as sentences, or as JSON objects
 * with --json. All on stderr.
 */
import { type BackupNews, BackupProgress } from "../../backup/options.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { formatLsn } from "../../wal/lsn.ts";
import type { Io } from "../io.ts";
import { Progress } from "./progress.ts";
import { counted } from "../../plural.ts";

/** How often the counters are looked at; Progress decides what is shown. */
const LOOK_MS = 100;

export class BackupDisplay {
  readonly progress: BackupProgress;
  readonly #io: Io;
  readonly #json: boolean;
  readonly #shown: Progress;
  #timer: NodeJS.Timeout | undefined;
  #shownBytes = 0;

  constructor(io: Io, json: boolean) {
    this.#io = io;
    this.#json = json;
    this.#shown = new Progress({ io, json, verb: "backing up", nowMs: () => performance.now() });
    this.progress = new BackupProgress((news) => this.#tell(news));
  }

  /** The result or an error follows. */
  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#shown.end();
  }

  #tell(news: BackupNews): void {
    if (this.#json) this.#io.err(`${JSON.stringify(newsEvent(news))}\n`);
    else {
      this.#shown.end();
      this.#io.err(`${newsLine(news)}\n`);
    }
    if (news.kind === "started") {
      this.#shown.begin(news.totalBytes);
      this.#timer = setInterval(() => this.#look(), LOOK_MS);
    } else if (news.kind === "verified") this.end();
  }

  #look(): void {
    const { bytes, tablespace } = this.progress;
    this.#shown.advance(bytes - this.#shownBytes);
    this.#shownBytes = bytes;
    this.#shown.detail(tablespace === undefined ? "data directory" : `tablespace ${tablespace}`);
  }
}

/** Advice for a backup that waits for WAL which is not archived. */
const ARCHIVING_ADVICE = "run seawall receive with the same --store and --cluster, or take the backup with --with-wal";

/** News as a sentence. */
export function newsLine(news: BackupNews): string {
  switch (news.kind) {
    case "checkpoint":
      return `backup ${news.id} of ${news.server}${news.fromStandby ? ", a standby" : ""}: waiting for the checkpoint it begins with`;
    case "no-receiver": {
      const tip = news.tipLsn === undefined ? "no WAL yet" : `WAL up to ${formatLsn(news.tipLsn)} only`;
      return `the archive has ${tip}, the server is at ${formatLsn(news.serverLsn)}: no receiver seems to run; ${ARCHIVING_ADVICE}`;
    }
    case "started": {
      const { tablespaces, totalBytes } = news;
      const more = tablespaces === 0 ? "" : ` and ${counted(tablespaces, "tablespace")}`;
      return `started at ${formatLsn(news.startLsn)} on timeline ${news.timeline}: data directory${more}, about ${humanBytes(totalBytes)}`;
    }
    case "verified":
      return `${counted(news.files, "file")} (${humanBytes(news.bytes)}) ${news.files === 1 ? "is" : "are"} stored in ${humanBytes(news.storedBytes)}, each as the server's manifest says`;
    case "wal-wait":
      return `waiting for WAL up to ${formatLsn(news.stopLsn)}; the archive has it up to ${formatLsn(news.storedLsn)}`;
    case "wal-stalled":
      return `no WAL arrives: the archive has it up to ${formatLsn(news.storedLsn)} of ${formatLsn(news.stopLsn)}; ${ARCHIVING_ADVICE}`;
    case "warning":
      return `the server warns: ${news.message}`;
  }
}

/** News as an event for machines: LSNs as text. */
export function newsEvent(news: BackupNews): Record<string, unknown> {
  const { kind, ...facts } = news;
  const entries = Object.entries(facts).map(([name, value]: [string, unknown]) => [
    name,
    // The only bigints here are LSNs.
    typeof value === "bigint" ? formatLsn(value as Parameters<typeof formatLsn>[0]) : (value ?? null),
  ]);
  return { event: kind, ...(Object.fromEntries(entries) as Record<string, unknown>) };
}
