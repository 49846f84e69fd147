/** What every bench is given. */
import type { S3Server } from "../test/harness/s3.ts";

export interface BenchContext {
  /** Runs of each variant; the median of them is reported. */
  readonly rounds: number;
  /** A new folder on the disk that is measured; gone when the bench ends. */
  scratch(name: string): string;
  /** Started on first use. */
  s3(): Promise<S3Server>;
  /** Progress, for whoever watches. */
  say(line: string): void;
}
