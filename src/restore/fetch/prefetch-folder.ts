/**
 * `pg_wal/.seawall`, the folder of prefetched segments. It lies inside pg_wal because there a rename puts them in
 * place, base backups leave it out, no other server looks, and it is removed with the data directory.
 *
 *     session            for whom the waiting segments are: the lines of `Session`
 *     prefetcher         process ID of the prefetcher; touched while it lives
 *     asked              the segment that wal-fetch last served by itself
 *     ready-<pid>-<…>/   the prefetcher's own: <segment> complete and verified, <segment>.part on its way: worth waiting for
 *         <file>.want.<pid>      that shell waits for it; removed when answered
 *         <file>.gone.<pid>      the answer to it, when the archive ends before that file
 *     target-<pid>       what a wal-fetch is writing
 *
 * No file here is the record, so a process removes whatever looks wrong. `bin/seawall-wal-fetch` reads `session`.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm, rmdir, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isProcessAlive, type ServerRun } from "../server-run.ts";
import { errnoOf } from "../../errors.ts";

export interface Session {
  /** `ServerRun.id`: segments wait for this start of the server only. */
  readonly run: string;
  /** The options of restore_command, as they stand in it. */
  readonly flags: string;
  /** Store and cluster: options may come from elsewhere too. */
  readonly source: string;
  /** The configuration file; a change of it ends the session. */
  readonly config: string;
}

/** A prefetcher that has not touched its file for this time is stuck or gone. */
const SILENT_MS_MAX = 10_000;
/** How often, and for how long, a new prefetcher looks for the folder that its starter makes. */
const OPENING_MS = [2, 5, 10, 20, 50, 100];
/** Linux finds page cache for pieces up to this size quickly; see store/file/store.ts. */
const WRITE_BYTES = 1 << 20;

/** How often the folder is made again while an ending prefetcher removes it. */
const ATTEMPTS_MAX = 5;

export class PrefetchFolder {
  readonly #path: string;

  constructor(run: ServerRun) {
    this.#path = join(run.walDir, ".seawall");
  }

  /** Moves a waiting segment to `target`; false when there is none for this session. */
  async take(session: Session, name: string, target: string): Promise<boolean> {
    const found = await this.#read("session");
    const [ready] = found?.split("\n").slice(-2) ?? [];
    if (ready === undefined || found !== sessionText(session, ready)) return false;
    if (!(await isNewer(join(this.#path, "session"), session.config))) return false;
    return quietly(rename(join(this.#path, ready, name), target));
  }

  /** Writes `content` and moves it to `target`, if `stillWanted` then. Not fsynced: PostgreSQL does (durable_rename). */
  async put(target: string, content: Uint8Array, stillWanted: () => Promise<void>): Promise<void> {
    const aside = join(this.#path, `target-${process.pid}`);
    try {
      await mkdir(this.#path, { recursive: true, mode: 0o700 });
      await writePieces(aside, content);
      await stillWanted();
      await rename(aside, target);
    } catch (error) {
      await rm(aside, { force: true });
      throw error;
    } finally {
      await this.#removeIfEmpty();
    }
  }

  /** True while a prefetcher works or starts. */
  async isPrefetching(): Promise<boolean> {
    const pid = Number.parseInt((await this.#read("prefetcher")) ?? "", 10);
    if (!(pid > 0) || !isProcessAlive(pid)) return false;
    const touched = await modifiedMs(join(this.#path, "prefetcher"));
    return touched !== undefined && Math.abs(Date.now() - touched) < SILENT_MS_MAX;
  }

  /** Tells the prefetcher where recovery is. An ending prefetcher may remove the folder meanwhile: it is made again. */
  async noteAsked(name: string): Promise<void> {
    const aside = join(this.#path, `target-${process.pid}`);
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(this.#path, { recursive: true, mode: 0o700 });
        await writeFile(aside, name);
        await rename(aside, join(this.#path, "asked"));
        return;
      } catch (error) {
        if (attempt === ATTEMPTS_MAX || errnoOf(error) !== "ENOENT") throw error;
      }
    }
  }

  /**
   * `pid` was just started as the prefetcher: no other one is started while it comes up, and recovery waits for `coming`,
   * the segment that it will fetch first.
   */
  async announce(pid: number, session: Session, coming: string): Promise<void> {
    const lock = join(this.#path, "prefetcher");
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    if (!(await this.isPrefetching())) await rm(lock, { force: true });
    if (!(await quietly(writeFile(lock, announced(pid), { flag: "wx" })))) return;
    await this.#open(pid, session, coming);
  }

  /** Removes what dead processes have left; everything, unless a prefetcher is at work. */
  async sweep(): Promise<void> {
    const prefetching = await this.isPrefetching();
    for (const name of await namesIn(this.#path)) {
      const writer = /^target-(\d+)$/.exec(name)?.[1];
      const left = writer === undefined ? !prefetching : !isProcessAlive(Number(writer));
      if (left) await rm(join(this.#path, name), { recursive: true, force: true });
    }
    await this.#removeIfEmpty();
  }

  /** Makes this process the prefetcher; undefined when another one is at work. Removes what earlier ones have left. */
  async claim(session: Session): Promise<ReadySegments | undefined> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    const lock = join(this.#path, "prefetcher");
    const isAnnounced = (await this.#read("prefetcher")) === announced(process.pid);
    if (!isAnnounced && (await this.isPrefetching())) return undefined;
    await rm(lock, { force: true });
    if (!(await quietly(writeFile(lock, String(process.pid), { flag: "wx" })))) return undefined;
    // No process uses segments of earlier sessions; remove them.
    const opened = isAnnounced ? await this.#opened(process.pid, session) : undefined;
    const own = opened ?? (await this.#open(process.pid, session));
    for (const name of await namesIn(this.#path)) {
      if (name.startsWith("ready-") && name !== own) await rm(join(this.#path, name), { recursive: true, force: true });
    }
    return new ReadySegments(this.#path, own, session);
  }

  /** A folder for the prefetcher `pid`, announced to all; `coming` is on its way already. */
  async #open(pid: number, session: Session, coming?: string): Promise<string> {
    const own = `ready-${pid}-${randomBytes(4).toString("hex")}`;
    await mkdir(join(this.#path, own), { mode: 0o700 });
    if (coming !== undefined) await writeFile(join(this.#path, own, partOf(coming)), "");
    await writeFile(join(this.#path, `${own}/session`), sessionText(session, own));
    await rename(join(this.#path, `${own}/session`), join(this.#path, "session"));
    return own;
  }

  /** Finds the folder from `announce`. It may not be there yet, or never: its maker may have been killed. */
  async #opened(pid: number, session: Session): Promise<string | undefined> {
    for (const waitMs of OPENING_MS) {
      const found = await this.#read("session");
      const [ready] = found?.split("\n").slice(-2) ?? [];
      if (ready?.startsWith(`ready-${pid}-`) === true && found === sessionText(session, ready)) return ready;
      await sleep(waitMs);
    }
    return undefined;
  }

  async #read(name: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.#path, name), "utf8");
    } catch {
      return undefined;
    }
  }

  async #removeIfEmpty(): Promise<void> {
    await quietly(rmdir(this.#path));
  }
}

/** A file that recovery asks for; only the asking process gets the answer. */
export interface Want {
  readonly file: string;
  readonly asker: string;
}

/** The prefetcher's side: its own folder of waiting segments. */
export class ReadySegments {
  readonly #root: string;
  readonly #own: string;
  readonly #session: Session;

  constructor(root: string, own: string, session: Session) {
    this.#root = root;
    this.#own = own;
    this.#session = session;
  }

  /** Shows that we live; false when another prefetcher has taken over, or the configuration file has changed. */
  async touch(): Promise<boolean> {
    const [lock, session] = [join(this.#root, "prefetcher"), join(this.#root, "session")];
    try {
      if ((await readFile(lock, "utf8")) !== String(process.pid)) return false;
      if ((await readFile(session, "utf8")) !== sessionText(this.#session, this.#own)) return false;
      await utimes(lock, new Date(), new Date());
      return await isNewer(session, this.#session.config);
    } catch {
      return false;
    }
  }

  /** The segment that a wal-fetch last served by itself. */
  async asked(): Promise<string | undefined> {
    return readFile(join(this.#root, "asked"), "utf8").catch(() => undefined);
  }

  /** Names of the prefetched segments, and the requests that have no answer yet. */
  async look(): Promise<{ readonly ready: ReadonlySet<string>; readonly wants: readonly Want[] }> {
    const names = await namesIn(join(this.#root, this.#own));
    const wants = names.flatMap((name) => {
      const [, file, asker] = /^([0-9A-F]{24}|[0-9A-F]{8}\.history)\.want\.(\d+)$/.exec(name) ?? [];
      return file === undefined || asker === undefined ? [] : [{ file, asker }];
    });
    return { ready: new Set(names.filter((name) => /^[0-9A-F]{24}$/.test(name))), wants };
  }

  /** Answers a wanted file: it waits by now, or the archive ends before it, or wal-fetch has to report the problem. */
  async answer({ file, asker }: Want, answer: "waits" | "gone" | "unknown"): Promise<void> {
    const path = join(this.#root, this.#own, file);
    if (answer === "gone") await writeFile(`${path}.gone.${asker}`, "");
    await rm(`${path}.want.${asker}`, { force: true });
  }

  /** Marks a file as on its way: recovery waits for it instead of fetching it too. Ends with `add` or `giveUp`. */
  async begin(name: string): Promise<void> {
    await writeFile(join(this.#root, this.#own, partOf(name)), "");
  }

  async giveUp(name: string): Promise<void> {
    await this.remove(partOf(name));
  }

  /** Adds a segment by a rename, so that no reader sees a part of it. */
  async add(name: string, content: Uint8Array): Promise<void> {
    const path = join(this.#root, this.#own, name);
    try {
      await writePieces(partOf(path), content);
      await rename(partOf(path), path);
    } catch (error) {
      await rm(partOf(path), { force: true });
      throw error;
    }
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.#root, this.#own, name), { force: true });
  }

  /** Removes what is ours: the session first, so that no segment is taken while they go. */
  async close(): Promise<void> {
    const lock = join(this.#root, "prefetcher");
    const isOwner = (await readFile(lock, "utf8").catch(() => "")) === String(process.pid);
    if (isOwner) for (const name of ["session", "asked"]) await rm(join(this.#root, name), { force: true });
    await rm(join(this.#root, this.#own), { recursive: true, force: true });
    if (isOwner) await rm(lock, { force: true });
    await quietly(rmdir(this.#root));
  }
}

function partOf(name: string): string {
  return `${name}.part`;
}

/** The content of the prefetcher's file until it has started and writes its process ID alone. */
function announced(pid: number): string {
  return `${pid} coming up`;
}

/** `bin/seawall-wal-fetch` reads these lines in this order. */
function sessionText({ run, flags, source, config }: Session, ready: string): string {
  const lines = [run, flags, source, config].map((text) => text.replaceAll("\n", " "));
  return `${[...lines, ready].join("\n")}\n`;
}

/** Whether `path` was written after the configuration file; there may be none. */
async function isNewer(path: string, config: string): Promise<boolean> {
  if (config === "") return true;
  const [own, other] = [await modifiedMs(path), await modifiedMs(config)];
  return own !== undefined && other !== undefined && own > other;
}

async function modifiedMs(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch {
    return undefined;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}

async function writePieces(path: string, content: Uint8Array): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    for (let at = 0; at < content.byteLength;) {
      const { bytesWritten } = await file.write(content, at, Math.min(WRITE_BYTES, content.byteLength - at));
      at += bytesWritten;
    }
  } finally {
    await file.close();
  }
}

/** Returns false when a step fails. Such a failure means only that another process was faster. */
async function quietly(step: Promise<unknown>): Promise<boolean> {
  try {
    await step;
    return true;
  } catch {
    return false;
  }
}
