/** The yardsticks of a commit: the latency of one PUT, through our store and bare; of one write and fdatasync. */
import { join } from "node:path";
import { MeasuredChild } from "./measured-child.ts";

/** What one commit of the tiny insert script takes in WAL, with its chunk's envelope, is below this. */
export const PUT_BYTES = 8192;

export type PutKind = "store" | "http" | "fdatasync";

/** Latencies in milliseconds of so many, one after the other, in a process of their own. */
export async function putLatencies(
  kind: PutKind,
  target: string,
  env: Readonly<Record<string, string>>,
  count = 300,
): Promise<number[]> {
  const script = join(import.meta.dirname, "put-latency-child.js");
  const args = [script, kind, target, String(PUT_BYTES), String(count)];
  const child = new MeasuredChild(process.execPath, args, { env: { ...process.env, ...env } });
  await child.finished();
  return JSON.parse(child.lastLine) as number[];
}
