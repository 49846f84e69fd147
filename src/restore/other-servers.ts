/**
 * Finds other servers that run on this machine. A copied data directory has the links of its original, so a running
 * server may use the directory behind a link.
 *
 * Directories are compared by device and inode: a bind mount gives one directory several paths.
 */
import { readdir, readlink, stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { WAL_FOLDER } from "./layout.ts";
import { realpathOrSelf } from "./target-dir.ts";

export interface OtherServer {
  readonly pid: number;
  readonly dataDir: string;
}

/**
 * Finds a server that runs in another data directory than `targetDir` and whose `pg_wal` or tablespaces are `directory`. Both paths
 * are absolute. The working directory of a server's processes is its data directory; /proc shows it for the processes of our own
 * account, to root for all. Servers in another PID namespace are not found, unless it lies below ours.
 */
export async function otherServerUsing(directory: string, targetDir: string): Promise<OtherServer | undefined> {
  const [wanted, target] = [await identityOf(directory), await identityOf(targetDir)];
  if (wanted === undefined) return undefined;
  const seen = new Set([target]);
  for (const pid of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(pid)) continue;
    const own = `/proc/${pid}/cwd`;
    const found = await identityOf(own);
    if (found === undefined || seen.has(found)) continue;
    seen.add(found);
    if (!(await directoriesOf(pid)).includes(wanted)) continue;
    return { pid: Number(pid), dataDir: await readlink(own).catch(() => own) };
  }
  return undefined;
}

/** The identities of `pg_wal` and the tablespaces below the working directory of a process. */
async function directoriesOf(pid: string): Promise<(string | undefined)[]> {
  const dataDir = `/proc/${pid}/cwd`;
  const names = await readdir(join(dataDir, "pg_tblspc")).catch(() => []);
  const entries = [WAL_FOLDER, ...names.map((name) => join("pg_tblspc", name))];
  return Promise.all(
    entries.map(async (entry) => {
      const path = join(dataDir, entry);
      const linked = await readlink(path).catch(() => undefined);
      // The process may have a root of its own, where the link leads elsewhere than here.
      return identityOf(linked !== undefined && isAbsolute(linked) ? `/proc/${pid}/root${linked}` : path);
    }),
  );
}

/** Undefined for a path that leads nowhere. */
async function identityOf(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}`;
}

/** The directory to which a link in `dataDir` leads; undefined when it is no link. */
export async function linkedDir(dataDir: string, link: string): Promise<string | undefined> {
  const path = await readlink(join(dataDir, link)).catch(() => undefined);
  return path === undefined ? undefined : realpathOrSelf(resolve(dataDir, path));
}
