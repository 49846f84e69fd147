/** What a recovery costs: the startup process with every command it ran and waited for, and what those left running beside it. */
import { readFileSync, readdirSync } from "node:fs";
import type { Cost } from "./measured-child.ts";

/** proc(5): USER_HZ. */
const TICKS_PER_SECOND = 100;
const SAMPLE_MS = 50;
/** Processes that a restore_command leaves behind to work ahead; nobody waits for them. */
const AHEAD = /wal-prefetch|archive-get:(async|local)/;

/**
 * Watches the recovery of the server with this postmaster. Memory: the largest of the processes whose command line contains
 * `part`, as they come and go.
 */
export function watchRecovery(postmaster: number, part: string): { stop(): Cost } {
  const ahead = new Map<number, number>();
  let startupCpu = 0;
  let peakRssBytes = 0;
  const look = (pid: number): void => {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [, parent, ...fields] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const [user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = fields.slice(9, 13);
    const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    if (parent === postmaster && line.includes("startup")) startupCpu = user + system + childrenUser + childrenSystem;
    if (!line.includes(part)) return;
    if (AHEAD.test(line)) ahead.set(pid, user + system);
    const kib = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    peakRssBytes = Math.max(peakRssBytes, Number(kib ?? 0) * 1024);
  };
  const sample = (): void => {
    for (const name of readdirSync("/proc")) {
      if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
      try {
        look(Number(name));
      } catch {
        // Ended meanwhile.
      }
    }
  };
  const timer = setInterval(sample, SAMPLE_MS);
  return {
    stop() {
      sample();
      clearInterval(timer);
      const ticks = [...ahead.values()].reduce((sum, each) => sum + each, startupCpu);
      return { cpuSeconds: ticks / TICKS_PER_SECOND, peakRssBytes };
    },
  };
}
