/** The demo proves its claims on this machine, and would not if the archive were damaged. */
import { chmodSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RunResult, run } from "../harness/run.ts";
import { removeTree } from "../harness/temp.ts";

const ROOT = join(import.meta.dirname, "..", "..");

describe("the demo", { timeout: 240_000 }, () => {
  let temp = "";

  beforeAll(async () => {
    temp = mkdtempSync(join(tmpdir(), "seawall-demo-"));
    // PostgreSQL's own account walks through it.
    chmodSync(temp, 0o755);
    const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
    await run(process.execPath, [tsc, "-p", "tsconfig.tools.json"], { cwd: ROOT });
  }, 120_000);
  afterAll(() => removeTree(temp));

  async function demo(env: Record<string, string>): Promise<RunResult> {
    return run(process.execPath, [join(ROOT, "build", "test", "demo", "main.js")], {
      env: { ...process.env, TMPDIR: temp, SEAWALL_DEMO_SECONDS: "3", ...env },
      accept: [0, 1],
    });
  }

  test("ends with every claim proved, and leaves nothing behind", async () => {
    const { code, stdout } = await demo({});
    expect(stdout).toContain("Every claim holds");
    expect(stdout.match(/^ {2}proved /gm)).toHaveLength(7);
    expect(code).toBe(0);
    // The cache of prepared servers is the harness's, and meant to stay.
    const left = readdirSync(temp).flatMap((folder) => readdirSync(join(temp, folder)));
    expect(left).toEqual(["cache"]);
  });

  test.each([
    ["flip-segment", /FAILED .*equal the primary's files/],
    ["delete-chunk", /FAILED .*covers all that the receiver says it has stored/],
  ])("fails when the archive is damaged: %s", async (sabotage, expected) => {
    const { code, stdout } = await demo({ SEAWALL_DEMO_SABOTAGE: sabotage });
    expect(stdout).toMatch(expected);
    expect(code).toBe(1);
  });
});
