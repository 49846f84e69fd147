/**
 * The last lines of a run: what to install when tests had to be skipped for want of it, then `N passed, N failed` with
 * nothing after it. Under CI=true a missing S3 server is a failure: skipped tests must not look like passed ones there.
 */
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";
import { CEPH_PACKAGES } from "./ceph.ts";
import type { S3Access } from "./s3-provider.ts";

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Set by the global setup, which vitest loads apart from its configuration: hence on `process`, not in this module. */
const NOTE = Symbol.for("seawall.test.s3");

export const lastLines = {
  noteS3(access: S3Access): void {
    (process as unknown as Record<symbol, unknown>)[NOTE] = "unavailable" in access ? access.unavailable : undefined;
  },
  s3Unavailable(): string | undefined {
    return (process as unknown as Record<symbol, unknown>)[NOTE] as string | undefined;
  },
};

export class LastLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const ci = process.env["CI"] === "true" || process.env["CI"] === "1";
    const s3 = lastLines.s3Unavailable();
    if (s3 !== undefined && ci) process.exitCode = 1;
    const counts = countTests(modules, errors.length + (s3 !== undefined && ci ? 1 : 0));
    process.stdout.write(closingLines(counts, s3, ci).join("\n") + "\n");
  }
}

/** A file that could not be loaded, and an error outside of any test, each count as one failure. */
export function countTests(modules: readonly TestModule[], otherFailures: number): Counts {
  let [passed, failed, skipped] = [0, otherFailures, 0];
  for (const module of modules) {
    if (module.errors().length > 0) failed++;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") passed++;
      else if (state === "skipped") skipped++;
      else failed++;
    }
  }
  return { passed, failed, skipped };
}

export function closingLines(counts: Counts, s3Unavailable: string | undefined, ci: boolean): string[] {
  const lines: string[] = [];
  if (s3Unavailable !== undefined) {
    lines.push(
      `S3 tests were skipped${ci ? ", which is a failure under CI" : ""}: ${s3Unavailable.split("\n")[0] ?? ""}`,
      `To run them: apt-get install ${CEPH_PACKAGES.join(" ")}`,
      "or name a server: SEAWALL_TEST_S3_ENDPOINT=http://… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
    );
  }
  const skipped = counts.skipped === 0 ? "" : `, ${counts.skipped} skipped`;
  lines.push(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
  return lines;
}
