/**
 * Tries what the account of a restored server may do, before anything is restored: root restores, and the server's
 * account may not enter every folder that root can.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { throwIfAborted } from "../store/signal.ts";
import { setModeAndOwner } from "./new-file.ts";
import type { Owner } from "./part-writer.ts";

const run = promisify(execFile);
/** A segment of 1 GiB from a slow store takes this long. */
const TRY_MS_MAX = 120_000;
/** `wal-fetch` and shells: not in the archive, which only a readable archive can say. */
const NOT_THERE = 1;

export interface AccountOptions {
  readonly owner: Owner;
  readonly signal: AbortSignal;
}

/** True when the account can enter the folder, and every folder on the way. */
export async function mayEnter(folder: string, { owner, signal }: AccountOptions): Promise<boolean> {
  const trouble = await troubleOf('cd -- "$1"', { args: [folder], cwd: "/", owner, env: {}, signal });
  return trouble === undefined;
}

/**
 * Finds the folders on the way to these directories that the account may not enter, each once. A directory may be absent, and
 * what the restore makes on the way is open to the account.
 */
export async function closedFolders(directories: readonly string[], account: AccountOptions): Promise<string[]> {
  const closed = new Set<string>();
  for (const directory of directories) {
    const way = await existingFolders(dirname(directory));
    const last = way.at(-1);
    if (last === undefined || (await mayEnter(last, account))) continue;
    for (const folder of way) {
      if (await mayEnter(folder, account)) continue;
      closed.add(folder);
      break;
    }
  }
  return [...closed];
}

/** The folders from the root to this one, the first of them that is absent excluded. */
async function existingFolders(folder: string): Promise<string[]> {
  const parent = dirname(folder);
  const above = parent === folder ? [] : await existingFolders(parent);
  const isThere = above.at(-1) === parent || parent === folder;
  return isThere && (await stat(folder).catch(() => undefined))?.isDirectory() === true ? [...above, folder] : above;
}

export interface FetchTry extends AccountOptions {
  readonly restoreCommand: string;
  /** A segment that recovery will ask for. */
  readonly segment: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Why the account cannot run the restore_command; undefined when it can, and when it fails for us too: then the account is
 * not the reason.
 */
export async function fetchTrouble({
  restoreCommand,
  segment,
  owner,
  env,
  signal,
}: FetchTry): Promise<string | undefined> {
  const attempt = async (as: Owner | undefined): Promise<string | undefined> => {
    const folder = await mkdtemp(join(tmpdir(), "seawall-try-"));
    try {
      await setModeAndOwner(folder, { mode: 0o700, owner: as, isDirectory: true });
      const command = filledIn(restoreCommand, { file: segment, path: join(folder, "segment") });
      return await troubleOf(command, { args: [], cwd: folder, owner: as, env, signal });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
  const trouble = await attempt(owner);
  if (trouble === undefined) return undefined;
  return (await attempt(undefined)) === undefined ? trouble : undefined;
}

/** PostgreSQL: archive.c, BuildRestoreCommand. Pure. */
export function filledIn(command: string, names: { readonly file: string; readonly path: string }): string {
  return command.replaceAll(/%([%fpr])/g, (_, letter: string) => {
    switch (letter) {
      case "f":
        return names.file;
      case "p":
        return names.path;
      case "r":
        return names.file;
      default:
        return "%";
    }
  });
}

/** The last thing that a failing command says. Throws `aborted`. */
async function troubleOf(
  script: string,
  how: {
    readonly args: readonly string[];
    readonly cwd: string;
    readonly owner: Owner | undefined;
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly signal: AbortSignal;
  },
): Promise<string | undefined> {
  const { args, cwd, owner, env, signal } = how;
  try {
    await run("/bin/sh", ["-c", script, "sh", ...args], {
      cwd,
      env: { ...env },
      signal,
      timeout: TRY_MS_MAX,
      ...owner,
    });
    return undefined;
  } catch (error) {
    throwIfAborted(signal);
    const { stderr = "", code } = error as { readonly stderr?: string; readonly code?: number | string };
    if (code === NOT_THERE && stderr.trim() === "") return undefined;
    const lines = stderr.trim().split("\n");
    const said = lines.find((line) => line.startsWith("error: "))?.slice("error: ".length) ?? lines.at(-1);
    return said === undefined || said === "" ? `it ends with ${code ?? "a signal"}` : said.replace(/ \[[a-z-]+\]$/, "");
  }
}
