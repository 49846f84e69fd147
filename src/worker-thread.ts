/**
 * A worker thread that answers questions, and the thread's own side of it. Every room gives it work that would hold up
 * the event loop. An idle thread does not keep the process alive; a busy one does.
 */
import { parentPort, type Transferable, Worker } from "node:worker_threads";
import { ERROR_KINDS, type ErrorCode } from "./error-kinds.ts";
import { SeawallError } from "./errors.ts";
import { keepYoungGeneration } from "./idle-memory.ts";
import { threadFile, type ThreadKind } from "./program-files.ts";
import { Turns } from "./turns.ts";

interface Failure {
  readonly message: string;
  /** The code of a SeawallError, or the operating system's. */
  readonly code: string | undefined;
  readonly hint: string | undefined;
  readonly cause: string | undefined;
}

type Reply<Answer> =
  | { readonly id: number; readonly ok: true; readonly answer: Answer }
  | { readonly id: number; readonly ok: false; readonly failure: Failure };

interface Waiting<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** A thread's own garbage is short-lived and small where large memory is shared or transferred. */
const YOUNG_GENERATION_MIB = 4;

export interface WorkerThreadOptions {
  readonly kind: ThreadKind;
  /** For messages. */
  readonly name: string;
}

export class WorkerThread<Question, Answer> {
  readonly #worker: Worker;
  readonly #name: string;
  readonly #waiting = new Map<number, Waiting<Answer>>();
  #nextId = 1;
  #closed = false;
  #failure: SeawallError | undefined;

  constructor({ kind, name }: WorkerThreadOptions) {
    this.#name = name;
    this.#worker = new Worker(threadFile(kind), { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB } });
    this.#worker.unref();
    this.#worker.once("online", keepYoungGeneration);
    this.#worker.on("message", (reply: Reply<Answer>) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", (code) => this.#fail(new Error(`exit code ${code}`)));
  }

  /** Questions without an answer yet. */
  get asked(): number {
    return this.#waiting.size;
  }

  /** It has ended by itself: every further question is refused. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /**
   * Questions are answered in their order. Rejects with the error that the thread met (a SeawallError keeps its code, the
   * operating system's errors theirs), with `aborted` once it is closed, with `internal` when it ended by itself.
   */
  async ask(question: Question, transfer: readonly Transferable[] = []): Promise<Answer> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw this.#aborted();
    const id = this.#nextId++;
    return new Promise<Answer>((resolve, reject) => {
      if (this.#waiting.size === 0) this.#worker.ref();
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, question }, transfer);
    });
  }

  /** Ends the thread in the midst of what it does. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker.terminate();
  }

  #settle(reply: Reply<Answer>): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    // Its end is waited for: a process with nothing else to do would end before that, without a word.
    if (this.#waiting.size === 0 && !this.#closed) this.#worker.unref();
    if (reply.ok) waiting?.resolve(reply.answer);
    else waiting?.reject(errorOf(reply.failure));
  }

  #fail(cause: unknown): void {
    this.#failure ??= this.#closed
      ? this.#aborted()
      : new SeawallError("internal", `${this.#name} ended unexpectedly`, { cause });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }

  #aborted(): SeawallError {
    return new SeawallError("aborted", `${this.#name} was ended`);
  }
}

/**
 * Threads of one kind, hired by need up to a most. A crew either answers single questions, each by the least busy thread
 * (`ask`), or lends whole threads to work that asks several in a row (`lend`).
 */
export class ThreadCrew<Question, Answer> implements AsyncDisposable {
  readonly #options: WorkerThreadOptions;
  readonly #threads: WorkerThread<Question, Answer>[] = [];
  readonly #lent = new Set<WorkerThread<Question, Answer>>();
  readonly #loans: Turns;
  #threadsMax: number;

  constructor(options: WorkerThreadOptions, threadsMax: number) {
    this.#options = options;
    this.#threadsMax = threadsMax;
    this.#loans = new Turns(threadsMax);
  }

  /** The most threads. */
  get threadsMax(): number {
    return this.#threadsMax;
  }

  /** Threads that are there. */
  get size(): number {
    return this.#threads.length;
  }

  /** A question has no answer yet. */
  get isBusy(): boolean {
    return this.#threads.some(({ asked }) => asked > 0);
  }

  /** Raises the number of threads; running ones stay. */
  widen(threads: number): void {
    this.#threadsMax = Math.max(this.#threadsMax, threads);
    this.#loans.resize(this.#threadsMax);
  }

  /** Hires so many threads ahead of their work: a thread needs a tenth of a second to start. */
  hire(threads: number): void {
    while (this.#living().length < Math.min(threads, this.#threadsMax)) this.#hire();
  }

  /** Asks a thread, as its own `ask` does. A thread that has ended by itself is replaced. */
  async ask(question: Question, transfer?: readonly Transferable[]): Promise<Answer> {
    return this.#leastBusy().ask(question, transfer);
  }

  /** Lends a thread to `work`, which waits while all are lent. A thread that has ended by itself is replaced. */
  async lend<T>(work: (thread: WorkerThread<Question, Answer>) => Promise<T>): Promise<T> {
    const giveBack = await this.#loans.take();
    const thread = this.#living().find((one) => !this.#lent.has(one)) ?? this.#hire();
    this.#lent.add(thread);
    try {
      return await work(thread);
    } finally {
      this.#lent.delete(thread);
      giveBack();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dismiss();
  }

  /** Ends those that are there: open questions reject with `aborted`. The next question starts threads again. */
  async dismiss(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map((thread) => thread.close()));
  }

  #leastBusy(): WorkerThread<Question, Answer> {
    const living = this.#living();
    const idle = living.find((thread) => thread.asked === 0);
    if (idle !== undefined) return idle;
    if (living.length >= this.#threadsMax) return living.reduce((a, b) => (a.asked <= b.asked ? a : b));
    return this.#hire();
  }

  #living(): WorkerThread<Question, Answer>[] {
    return this.#threads.filter((thread) => !thread.hasFailed);
  }

  #hire(): WorkerThread<Question, Answer> {
    const hired = new WorkerThread<Question, Answer>(this.#options);
    this.#threads.splice(0, this.#threads.length, ...this.#living(), hired);
    return hired;
  }
}

/** The thread's side: `answer` is called with one question after the other, each time when it has answered the one before. */
export function answerQuestions<Question, Answer>(
  answer: (question: Question) => Answer | Promise<Answer>,
  transferOf: (answer: Answer) => readonly Transferable[] = () => [],
): void {
  let before: Promise<void> = Promise.resolve();
  const answerOne = async (id: number, question: Question): Promise<void> => {
    let reply: Reply<Answer>;
    let transfer: readonly Transferable[] = [];
    try {
      reply = { id, ok: true, answer: await answer(question) };
      transfer = transferOf(reply.answer);
    } catch (error) {
      reply = { id, ok: false, failure: failureOf(error) };
    }
    parentPort?.postMessage(reply, transfer);
  };
  parentPort?.on("message", ({ id, question }: { readonly id: number; readonly question: Question }) => {
    before = before.then(async () => answerOne(id, question));
  });
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), code: undefined, hint: undefined, cause: undefined };
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const hint = error instanceof SeawallError ? error.hint : undefined;
  return { message: error.message, code, hint, cause: error.cause instanceof Error ? error.cause.message : undefined };
}

function errorOf({ message, code, hint, cause }: Failure): Error {
  const kept = cause === undefined ? {} : { cause: new Error(cause) };
  if (code !== undefined && code in ERROR_KINDS && hint !== undefined) {
    // A cast: the table has just been asked for it.
    return new SeawallError(code as ErrorCode, message, { hint, ...kept });
  }
  return Object.assign(new Error(message, kept), code === undefined ? {} : { code });
}
