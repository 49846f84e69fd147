/**
 * Namespaces for a drill's server, where the machine has them: no network, and of the machine's files only the drill's folder
 * and programs, which are read-only (program-places.ts). The server answers queries that may call anything, and settings alone
 * cannot stop a function that connects to another server. A network namespace does not cover Unix sockets, so the folders that
 * hold them are hidden too.
 *
 * There is no namespace for processes: the server is watched and stopped by its process ID.
 * Source: man unshare(1), mount(8), mount_namespaces(7), network_namespaces(7), user_namespaces(7).
 */
import { execFile } from "node:child_process";
import { lstat, readdir, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { isAbort } from "../../errors.ts";
import type { Owner } from "../part-writer.ts";
import { isInside } from "../target-dir.ts";
import { outermost } from "./program-places.ts";

const run = promisify(execFile);
const PROBE_MS_MAX = 20_000;

export interface Program {
  readonly file: string;
  readonly args: readonly string[];
  /** The account that it is started as; undefined for our own. */
  readonly owner: Owner | undefined;
}

export interface Namespaces {
  /** The server's network and files are its own, or its network, or neither. */
  readonly kind: "files" | "network" | "none";
  /** The reason when they are not of the first kind: a clause. */
  readonly reason: string | undefined;
  enter(program: Program): Program;
}

export interface NamespaceOptions {
  /** Folders that the server may change. */
  readonly folders: readonly string[];
  /** Files and folders that the server reads. They are shown read-only, also outside the usual folders of programs. */
  readonly programs: readonly string[];
  /** Run to see whether the namespaces work: it must need all that the server needs. */
  readonly probe: Program;
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Top folders of the machine that hold programs and what they need. All others are hidden. */
const PROGRAM_FOLDERS = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "gnu"];
/** Folders of the kernel. */
const KERNEL_FOLDERS = ["dev", "proc", "sys"];
/** A place of the kernel that PostgreSQL does not need; what stays visible is held there meanwhile. */
const STAGE = "/sys";

/** The closest namespaces that the probe runs in. Throws `aborted`. */
export async function findNamespaces(options: NamespaceOptions): Promise<Namespaces> {
  const { probe } = options;
  const script = await hidingScript(options);
  const ownFiles = (program: Program): Program => inOwnFiles(program, script);
  const trouble = await troubleOf(ownFiles(probe), options);
  if (trouble === undefined) return { kind: "files", reason: undefined, enter: ownFiles };
  // A shell lies in the usual folders: where it runs, the machine is not the reason.
  const machine = await troubleOf(ownFiles({ ...probe, file: "/bin/sh", args: ["-c", ":"] }), options);
  const reason =
    machine === undefined
      ? `${probe.file} does not run while other files are hidden (${trouble}); install it below /usr or /opt`
      : `this machine does not allow more (${machine})`;
  const alone = await troubleOf(inOwnNetwork(probe), options);
  if (alone === undefined) return { kind: "network", reason, enter: inOwnNetwork };
  return { kind: "none", reason: `this machine does not allow more (${alone})`, enter: (program) => program };
}

/** Root makes the namespaces itself and then becomes the account. Other accounts need a user namespace to make them. */
function inOwnFiles({ file, args, owner }: Program, script: string): Program {
  const account = accountOf(owner);
  const root = process.getuid?.() === 0;
  const outer = ["--mount", "--net", "--ipc", ...(root ? [] : ["--user", "--map-root-user"])];
  const inner = root ? account.become : account.map;
  const last = [...inner, "--", file, ...args];
  return {
    file: "unshare",
    args: [...outer, "--", "/bin/sh", "-ec", script, "sh", "unshare", ...last],
    owner: undefined,
  };
}

function inOwnNetwork({ file, args, owner }: Program): Program {
  const account = accountOf(owner);
  if (process.getuid?.() !== 0) {
    return { file: "unshare", args: [...account.map, "--net", "--ipc", "--", file, ...args], owner: undefined };
  }
  const inner = ["unshare", ...account.become, "--", file, ...args];
  return { file: "unshare", args: ["--net", "--ipc", "--", ...inner], owner: undefined };
}

function accountOf(owner: Owner | undefined): { readonly become: string[]; readonly map: string[] } {
  const uid = owner?.uid ?? process.getuid?.() ?? 0;
  const gid = owner?.gid ?? process.getgid?.() ?? 0;
  return {
    become: ["--setgid", String(gid), "--setuid", String(uid)],
    map: ["--user", `--map-user=${uid}`, `--map-group=${gid}`],
  };
}

/** Lines for sh. `"$@"` is started at their end. */
async function hidingScript({ folders, programs }: NamespaceOptions): Promise<string> {
  const named = await Promise.all(programs.map(throughTopLink));
  const kept = outermost(named.filter((path) => !isUsual(path)));
  const staged = [...kept, ...(await Promise.all(folders.map(throughTopLink)))];
  const tops = await topFolders();
  const hidden = tops.filter((name) => ![...PROGRAM_FOLDERS, ...KERNEL_FOLDERS].includes(name));
  const tmpfs = (path: string): string => `mount -t tmpfs -o mode=0755 none ${word(path)}`;
  return [
    "umask 022",
    SHOW,
    READ_ONLY,
    "cd /",
    tmpfs(STAGE),
    ...staged.map((path, at) => `show ${word(path)} ${STAGE}/${at}`),
    ...tops.filter((name) => PROGRAM_FOLDERS.includes(name)).map((name) => `read_only /${name}`),
    ...hidden.map((name) => tmpfs(`/${name}`)),
    ...staged.flatMap((path, at) => [
      `mkdir -p ${word(dirname(path))}`,
      `show ${STAGE}/${at} ${word(path)}`,
      ...(kept.includes(path) ? [`read_only ${word(path)}`] : []),
    ]),
    tmpfs(STAGE),
    'exec "$@"',
  ].join("\n");
}

/** Mounts a file or a folder in another place too. */
const SHOW = 'show() { if [ -d "$1" ]; then mkdir -p "$2"; else : >"$2"; fi; mount --rbind "$1" "$2"; }';
/** A remount sets all flags anew. In a user namespace those that were set must stay. */
const READ_ONLY = `read_only() {
  mount --bind "$1" "$1"
  flags=$(tail -n 1 /proc/self/mountinfo | cut -d ' ' -f 6)
  mount -o "remount,bind,ro,\${flags#r?,}" "$1"
}`;

/** The path without a link as its first folder: such a link stays, and leads into a folder that is made anew. */
async function throughTopLink(path: string): Promise<string> {
  const top = `/${path.split("/")[1] ?? ""}`;
  return join(await realpath(top).catch(() => top), path.slice(top.length));
}

function isUsual(path: string): boolean {
  return [...PROGRAM_FOLDERS, ...KERNEL_FOLDERS].some((name) => isInside(path, `/${name}`));
}

/** Links lead into one of the others. */
async function topFolders(): Promise<string[]> {
  const names: string[] = [];
  for (const name of await readdir("/")) {
    if ((await lstat(`/${name}`).catch(() => undefined))?.isDirectory() === true) names.push(name);
  }
  return names;
}

function word(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Why the program does not run; undefined when it does. */
async function troubleOf({ file, args }: Program, { env, signal }: NamespaceOptions): Promise<string | undefined> {
  try {
    await run(file, [...args], { env, cwd: "/", signal, timeout: PROBE_MS_MAX });
    return undefined;
  } catch (error) {
    if (signal.aborted || isAbort(error)) throw error;
    const { stderr = "", message } = error as { readonly stderr?: string; readonly message: string };
    return (stderr.trim().split("\n").at(-1) ?? "") || message;
  }
}
