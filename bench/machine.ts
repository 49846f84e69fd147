/** What every table in bench/RESULTS.md is headed by: the machine and the versions the numbers were measured on. */
import { availableParallelism, cpus, release, totalmem, type } from "node:os";

export function describeMachine(): string {
  const model = cpus()[0]?.model ?? "unknown processor";
  const memoryGiB = (totalmem() / 2 ** 30).toFixed(1);
  return `${model}, ${availableParallelism()} cores, ${memoryGiB} GiB; ${type()} ${release()}; Node.js ${process.version}`;
}
