/** Which processes a file names are known to have ended, and which may run in another container or on another machine. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { fateOf, judgeFate, ownIdentity, type ProcessFate } from "../../src/restore/process-identity.ts";

const OWN = { pid: 1, boot: "b1", namespaces: "pid:[1] time:[2]", startTicks: "100" };
const FOUND = { ...OWN, pid: 7, startTicks: "50" };

test.each<[string, Partial<typeof FOUND> | Record<string, undefined>, string | undefined, ProcessFate]>([
  ["a process of this namespace that is gone", {}, undefined, "ended"],
  ["one that runs", {}, "50", "running"],
  ["one whose ID another process has now", {}, "51", "ended"],
  ["this process", { pid: 1, startTicks: "100" }, "100", "this process"],
  ["an earlier process with our own ID", { pid: 1 }, "100", "ended"],
  [
    "a process of another PID namespace with an ID that is free here",
    { namespaces: "pid:[3] time:[2]" },
    undefined,
    "unknown",
  ],
  [
    "a process of another PID namespace with our own ID",
    { namespaces: "pid:[3]", pid: 1, startTicks: "100" },
    "100",
    "unknown",
  ],
  ["a process of another boot or machine", { boot: "b2" }, undefined, "unknown"],
  ["a process without a boot", { boot: undefined }, undefined, "unknown"],
  ["a process without namespaces", { namespaces: undefined }, undefined, "unknown"],
  ["a living process without a start", { startTicks: undefined }, "50", "unknown"],
])("%s", (_title, changes, startTicks, fate) => {
  const there = { own: OWN, isAlive: startTicks !== undefined, startTicks };
  expect(judgeFate({ ...FOUND, ...changes }, there)).toBe(fate);
});

test("where the system tells neither boot nor namespaces, no process is known to have ended", () => {
  const own = { ...OWN, boot: undefined, namespaces: undefined };
  expect(judgeFate(own, { own, isAlive: false, startTicks: undefined })).toBe("unknown");
});

test.skipIf(process.platform !== "linux")("this process, and one that has just ended", async () => {
  const own = await ownIdentity();
  expect(own.startTicks).toMatch(/^\d+$/);
  expect(await fateOf(own)).toBe("this process");
  expect(await fateOf({ ...own, pid: spawnSync("true").pid })).toBe("ended");
});
