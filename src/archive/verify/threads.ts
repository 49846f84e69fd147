/** The threads of a deep verification, each lent to a piece of WAL or a part of a backup at a time. */
import { ThreadCrew, type WorkerThread } from "../../worker-thread.ts";
import type { VerifyAnswer, VerifyQuestion } from "./questions.ts";

export type VerifyThread = WorkerThread<VerifyQuestion, VerifyAnswer>;
export type VerifyCrew = ThreadCrew<VerifyQuestion, VerifyAnswer>;

export function verifyCrew(threadsMax: number): VerifyCrew {
  return new ThreadCrew({ from: import.meta.url, file: "./worker.js", name: "a verification thread" }, threadsMax);
}
