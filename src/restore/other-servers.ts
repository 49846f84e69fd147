/**
 * Finds other servers that run on this machine. A copied data directory has the links of its original, so a running
 * server may use the directory behind a link.
 */
import { readdir, readlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { WAL_FOLDER } from "./layout.ts";
import { realpathOrSelf } from "./target-dir.ts";

export interface OtherServer {
  readonly pid: number;
  readonly dataDir: string;
}

/**
 * Finds a server that runs in another data directory than `targetDir` and whose `pg_wal` or tablespaces are `directory`. All paths
 * are absolute, links resolved. The working directory of a server's processes is its data directory; /proc shows it for the processes
 * of our own account, to root for all.
 */
export async function otherServerUsing(directory: string, targetDir: string): Promise<OtherServer | undefined> {
  for (const [dataDir, pid] of await workingDirectories()) {
    if (dataDir === targetDir || !(await linksOf(dataDir)).includes(directory)) continue;
    return { pid, dataDir };
  }
  return undefined;
}

/** Every directory in which processes run, with the first of them. */
async function workingDirectories(): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const pid of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(pid)) continue;
    const path = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    if (path !== undefined && !found.has(path)) found.set(path, Number(pid));
  }
  return found;
}

async function linksOf(dataDir: string): Promise<string[]> {
  const names = await readdir(join(dataDir, "pg_tblspc")).catch(() => []);
  const links = [WAL_FOLDER, ...names.map((name) => join("pg_tblspc", name))];
  return Promise.all(links.map(async (link) => (await linkedDir(dataDir, link)) ?? ""));
}

/** The directory to which a link in `dataDir` leads; undefined when it is no link. */
export async function linkedDir(dataDir: string, link: string): Promise<string | undefined> {
  const path = await readlink(join(dataDir, link)).catch(() => undefined);
  return path === undefined ? undefined : realpathOrSelf(resolve(dataDir, path));
}
