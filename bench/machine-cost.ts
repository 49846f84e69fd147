/** What a measurement costs when its work is spread over processes that nobody here is the parent of. Linux only. */
import { readFileSync, readdirSync } from "node:fs";

/** proc(5), /proc/stat: USER_HZ is what it counts in. */
const TICKS_PER_SECOND = 100;
const SAMPLE_MS = 100;

/** Processor time, user and system, that the whole machine has used since it was started. */
export function machineCpuSeconds(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    readFileSync("/proc/stat", "utf8").split("\n", 1)[0] ?? ""
  )
    .split(/\s+/)
    .map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}

/** Watches the resident memory of all processes whose command line contains `part`; `stop` tells the largest one's peak. */
export function watchRss(part: string): { stop(): number } {
  let peak = 0;
  const sample = (): void => {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        if (Number(pid) === process.pid) continue;
        if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").includes(part)) continue;
        const kib = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        peak = Math.max(peak, Number(kib ?? 0) * 1024);
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
      return peak;
    },
  };
}
