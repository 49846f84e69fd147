/** Jobs of a kind take turns, even when the job that held the turn was killed. */
import { expect, test } from "vitest";
import { takeTurn } from "../../src/cli/job-turn.ts";
import { silentLog } from "../../src/log.ts";

const turn = (job: string, cluster: string, signal = new AbortController().signal): Promise<AsyncDisposable> =>
  takeTurn({ job, store: `file:///turns/${process.pid}`, cluster, log: silentLog, signal });

test("the second of a kind waits for the first; other kinds and other clusters do not", async () => {
  const events: string[] = [];
  const first = await turn("backup", "main");
  const second = turn("backup", "main").then((held) => {
    events.push("second");
    return held;
  });
  const others = [await turn("verify", "main"), await turn("backup", "orders")];
  events.push("others");
  await first[Symbol.asyncDispose]();
  for (const held of [await second, ...others]) await held[Symbol.asyncDispose]();
  expect(events).toEqual(["others", "second"]);
});

test("who is told to stop while waiting does not wait", async () => {
  const first = await turn("drill", "main");
  const stop = new AbortController();
  const second = turn("drill", "main", stop.signal);
  stop.abort();
  await expect(second).rejects.toMatchObject({ code: "aborted" });
  await first[Symbol.asyncDispose]();
});
