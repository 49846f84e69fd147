/** A program on a pseudo terminal: its questions are answered, and what it shows is seen. */
import { type ChildProcess, spawn } from "node:child_process";
import { until } from "../campaigns/campaign.ts";
import { tiedToUs } from "./run.ts";

/** A command on a pseudo terminal (script of util-linux), which types what it is told. */
export class Terminal implements AsyncDisposable {
  shown = "";
  readonly #child: ChildProcess;
  readonly code: Promise<number | null>;

  /** `words`: the program and its arguments. */
  constructor(words: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const line = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
    const command = tiedToUs("KILL", ["script", "-qefc", line, "/dev/null"]);
    this.#child = spawn(command.file, command.args, {
      stdio: ["pipe", "pipe", "inherit"],
      env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", TERM: "dumb", NO_COLOR: "1", ...env },
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.shown += text));
    this.code = new Promise((resolve) => this.#child.once("close", (code) => resolve(code)));
  }

  /** Waits for the question, and types. */
  async answer(question: string, text: string): Promise<void> {
    await until(question, () => this.shown.includes(question));
    this.shown = this.shown.slice(this.shown.indexOf(question) + question.length);
    this.#child.stdin?.write(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.code;
  }
}
