/** A worker thread's end, as the process waits for it. */
import { Worker } from "node:worker_threads";
import { afterEach, expect, test, vi } from "vitest";
import type { ExtractAnswer, ExtractQuestion } from "../src/restore/extract-worker.ts";
import { WorkerThread } from "../src/worker-thread.ts";

afterEach(() => void vi.restoreAllMocks());

test("a thread that answers while it is being ended holds the process until it has ended", async () => {
  const thread = new WorkerThread<ExtractQuestion, ExtractAnswer>({ kind: "extract", name: "a restore worker" });
  const answer = thread.ask({ kind: "compare", files: [] });
  // A cast: Node.js has that method.
  const end = Object.getOwnPropertyDescriptor(Worker.prototype, "terminate")?.value as Worker["terminate"];
  vi.spyOn(Worker.prototype, "terminate").mockImplementation(async function (this: Worker) {
    await answer;
    return end.call(this);
  });
  const letGo = vi.spyOn(Worker.prototype, "unref");
  await thread.close();
  // A process with nothing else to do would have ended there, with no message and the status that was set at its start.
  expect(letGo).not.toHaveBeenCalled();
  expect(await answer).toEqual({ same: [] });
});
