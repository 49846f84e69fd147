/**
 * Identifies a process in a file that another container or machine may read. A process ID alone has a meaning in one PID
 * namespace of one running kernel: elsewhere it names no process, or another one.
 *
 * Two living PID namespaces of one kernel never have the same inode. So a process with our boot and our namespace either
 * can be looked up here, or ended together with its namespace. The time namespace counts too: start times depend on it.
 *
 * Source: man pid_namespaces(7), time_namespaces(7), namespaces(7), proc_pid_stat(5).
 */
import { readlink } from "node:fs/promises";
import { isProcessAlive, textOf } from "./server-run.ts";

export interface ProcessIdentity {
  readonly pid: number;
  /** The boot of the kernel; undefined where the system does not tell. */
  readonly boot: string | undefined;
  /** The namespaces of process IDs and of time; undefined where the system does not tell. */
  readonly namespaces: string | undefined;
  /** Start of the process, in clock ticks since that boot; undefined where the system does not tell. */
  readonly startTicks: string | undefined;
}

/** `unknown`: the process may run in another container, on another machine, or not at all. */
export type ProcessFate = "this process" | "running" | "ended" | "unknown";

export async function ownIdentity(): Promise<ProcessIdentity> {
  const { pid } = process;
  const [boot, namespaces, startTicks] = await Promise.all([ownBoot(), ownNamespaces(), startTicksOf(pid)]);
  return { pid, boot, namespaces, startTicks };
}

/** Reads an identity back from a document's fields. Undefined without a process ID; earlier versions wrote it alone. */
export function parseIdentity(fields: Readonly<Record<string, unknown>>): ProcessIdentity | undefined {
  const { pid } = fields;
  if (typeof pid !== "number") return undefined;
  const text = (name: keyof ProcessIdentity): string | undefined => {
    const value = fields[name];
    return typeof value === "string" ? value : undefined;
  };
  return { pid, boot: text("boot"), namespaces: text("namespaces"), startTicks: text("startTicks") };
}

export async function fateOf(found: ProcessIdentity): Promise<ProcessFate> {
  const own = await ownIdentity();
  const isAlive = isProcessAlive(found.pid);
  return judgeFate(found, { own, isAlive, startTicks: isAlive ? await startTicksOf(found.pid) : undefined });
}

/** Pure. `there`: what our PID namespace has under the process ID that was found. */
export function judgeFate(
  found: ProcessIdentity,
  there: { readonly own: ProcessIdentity; readonly isAlive: boolean; readonly startTicks: string | undefined },
): ProcessFate {
  const { own, isAlive, startTicks } = there;
  if (found.boot === undefined || found.boot !== own.boot) return "unknown";
  if (found.namespaces === undefined || found.namespaces !== own.namespaces) return "unknown";
  if (!isAlive) return "ended";
  if (found.startTicks === undefined || startTicks === undefined) return "unknown";
  // The process ID was used again.
  if (found.startTicks !== startTicks) return "ended";
  return found.pid === own.pid ? "this process" : "running";
}

async function ownBoot(): Promise<string | undefined> {
  return (await textOf("/proc/sys/kernel/random/boot_id")).trim() || undefined;
}

/** Undefined also when `/proc` shows the processes of another namespace than ours. */
async function ownNamespaces(): Promise<string | undefined> {
  const [self, ofProcesses, ofTime] = await Promise.all(
    ["/proc/self", "/proc/self/ns/pid", "/proc/self/ns/time"].map((path) => readlink(path).catch(() => undefined)),
  );
  if (self !== String(process.pid) || ofProcesses === undefined) return undefined;
  // Linux before 5.6 has no time namespaces.
  return ofTime === undefined ? ofProcesses : `${ofProcesses} ${ofTime}`;
}

/** Field 22 of `/proc/<pid>/stat`. The name in field 2 may hold spaces and brackets. */
async function startTicksOf(pid: number): Promise<string | undefined> {
  const stat = await textOf(`/proc/${pid}/stat`);
  return stat
    .slice(stat.lastIndexOf(")") + 1)
    .trim()
    .split(" ")[19];
}
