/**
 * The last lines of a run: what to install when tests had to be skipped for want of it, then `N passed, N failed` with
 * nothing after it. Under CI=true what is missing is a failure: skipped tests must not look like passed ones there.
 */
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";
import { BROWSER_PACKAGES, type BrowserAccess } from "./browser-access.ts";
import { CLOCK_PACKAGES, type ClockAccess } from "./calendar.ts";
import { CEPH_PACKAGES } from "./ceph.ts";
import type { ToolAccess } from "./other-tools.ts";
import { PROMETHEUS_PACKAGES, type PrometheusAccess } from "./prometheus.ts";
import { RCLONE_PACKAGES, type RcloneAccess } from "./rclone.ts";
import { PROGRAM_PACKAGES, type ProgramAccess } from "./programs.ts";
import type { S3Access } from "./s3-provider.ts";
import { SSH_PACKAGES, type SshAccess } from "./ssh.ts";

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What tests had to be skipped for want of. */
export interface Missing {
  readonly tests: string;
  readonly why: string;
  readonly remedies: readonly string[];
}

/** Set by the global setup, which vitest loads apart from its configuration: hence on `process`, not in this module. */
const NOTES = Symbol.for("seawall.test.missing");

const CEPH_REMEDIES = [
  `apt-get install ${CEPH_PACKAGES.join(" ")}`,
  "or name a server: SEAWALL_TEST_S3_ENDPOINT=http://… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
];

export const lastLines = {
  noteS3(access: S3Access, remedies: readonly string[] = CEPH_REMEDIES): void {
    if (!("unavailable" in access)) return;
    note({ tests: "S3 tests", why: access.unavailable, remedies });
  },
  noteClock(access: ClockAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${CLOCK_PACKAGES.join(" ")}`];
    note({ tests: "Tests of a simulated calendar", why: access.unavailable, remedies });
  },
  noteBrowser(access: BrowserAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${BROWSER_PACKAGES.join(" ")}`];
    note({ tests: "Tests of the status page in a browser", why: access.unavailable, remedies });
  },
  noteRclone(access: RcloneAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${RCLONE_PACKAGES.join(" ")}`];
    note({ tests: "The test that moves a bucket", why: access.unavailable, remedies });
  },
  notePrograms(access: ProgramAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${PROGRAM_PACKAGES.join(" ")}`];
    note({ tests: "Tests of completion in zsh and fish, and of the manual", why: access.unavailable, remedies });
  },
  noteTool(tool: string, access: ToolAccess, remedy: string): void {
    if (!("unavailable" in access)) return;
    note({ tests: `Tests of a switch from ${tool}`, why: access.unavailable, remedies: [remedy] });
  },
  noteSsh(access: SshAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${SSH_PACKAGES.join(" ")}`];
    note({ tests: "The test of a restore over SSH", why: access.unavailable, remedies });
  },
  notePrometheus(access: PrometheusAccess): void {
    if (!("unavailable" in access)) return;
    const remedies = [`apt-get install ${PROMETHEUS_PACKAGES.join(" ")}`];
    note({ tests: "Tests with a real Prometheus", why: access.unavailable, remedies });
  },
  noteVersion(version: number, why: string): void {
    const remedies = ["name a Debian mirror in /etc/apt/sources.list", "or leave it out: SEAWALL_TEST_MATRIX=14,18"];
    note({ tests: `Tests on PostgreSQL ${version}`, why, remedies });
  },
  missing(): readonly Missing[] {
    return ((process as unknown as Record<symbol, unknown>)[NOTES] ?? []) as readonly Missing[];
  },
};

function note(missing: Missing): void {
  (process as unknown as Record<symbol, unknown>)[NOTES] = [...lastLines.missing(), missing];
}

export class LastLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const ci = process.env["CI"] === "true" || process.env["CI"] === "1";
    const missing = lastLines.missing();
    if (missing.length > 0 && ci) process.exitCode = 1;
    const counts = countTests(modules, errors.length + (ci ? missing.length : 0));
    process.stdout.write(closingLines(counts, missing, ci).join("\n") + "\n");
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

export function closingLines(counts: Counts, missing: readonly Missing[], ci: boolean): string[] {
  const failure = ci ? ", which is a failure under CI" : "";
  const lines = missing.flatMap(({ tests, why, remedies: [first = "", ...others] }) => [
    `${tests} were skipped${failure}: ${why.split("\n")[0] ?? ""}`,
    `To run them: ${first}`,
    ...others,
  ]);
  const skipped = counts.skipped === 0 ? "" : `, ${counts.skipped} skipped`;
  lines.push(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
  return lines;
}
