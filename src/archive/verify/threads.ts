/** The threads of a deep verification: as many as there are jobs, started when they are needed. */
import { invariant } from "../../errors.ts";
import { WorkerThread } from "../../worker-thread.ts";
import type { VerifyAnswer, VerifyQuestion } from "./questions.ts";

export type VerifyLane = WorkerThread<VerifyQuestion, VerifyAnswer>;

export class VerifyCrew implements AsyncDisposable {
  readonly #jobs: number;
  readonly #lanes: VerifyLane[] = [];
  readonly #idle: VerifyLane[] = [];

  constructor(jobs: number) {
    this.#jobs = jobs;
  }

  /** Lends a thread to `work`; callers see to it that no more than `jobs` are lent at once. */
  async lend<T>(work: (lane: VerifyLane) => Promise<T>): Promise<T> {
    const lane = this.#idle.pop() ?? this.#hire();
    try {
      return await work(lane);
    } finally {
      this.#idle.push(lane);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }

  #hire(): VerifyLane {
    invariant(this.#lanes.length < this.#jobs, "more verification threads than jobs");
    const lane: VerifyLane = new WorkerThread({
      ...{ from: import.meta.url, file: "./worker.js", name: "a verification thread" },
    });
    this.#lanes.push(lane);
    return lane;
  }
}
