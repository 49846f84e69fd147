/** The machine's load, by which `--compress-level auto` chooses. */
import { availableParallelism, loadavg } from "node:os";

/** Processes that run or wait for a processor, for each processor, in the last minute (getloadavg(3)). */
export function loadPerProcessor(): number {
  return (loadavg()[0] ?? 0) / availableParallelism();
}
