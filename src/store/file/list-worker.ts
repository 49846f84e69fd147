/**
 * The thread that reads directories and asks for the sizes of files, one system call after the other. On the event loop
 * each of a million files would cost more than the call itself. A file system that hangs holds up this thread only.
 */
import { lstatSync, opendirSync } from "node:fs";
import { answerQuestions } from "../../worker-thread.ts";
import { isGone } from "./errors.ts";
import { FirstNames, type NamesRequest } from "./names.ts";

export type ListQuestion =
  | { readonly kind: "names"; readonly request: NamesRequest }
  /** Keys, a line each. */
  | { readonly kind: "facts"; readonly root: string; readonly keys: string };

export type ListAnswer =
  | { readonly kind: "names"; readonly names: string }
  /** For each key its size and when it was modified, in ms; both NaN for what is no file any more. */
  | { readonly kind: "facts"; readonly facts: Float64Array<ArrayBuffer> };

answerQuestions<ListQuestion, ListAnswer>(
  (question) => (question.kind === "names" ? namesOf(question.request) : factsOf(question.root, question.keys)),
  (answer) => (answer.kind === "facts" ? [answer.facts.buffer] : []),
);

function namesOf(request: NamesRequest): ListAnswer {
  const first = new FirstNames(request);
  let directory;
  try {
    directory = opendirSync(`${request.root}/${request.folder}`, { bufferSize: 1024 });
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) first.add(entry);
  } catch (error) {
    if (!isGone(error)) throw error;
  } finally {
    directory?.closeSync();
  }
  return { kind: "names", names: first.sorted().join("\n") };
}

function factsOf(root: string, lines: string): ListAnswer {
  const keys = lines.split("\n");
  const facts = new Float64Array(2 * keys.length).fill(Number.NaN);
  keys.forEach((key, at) => {
    try {
      const stats = lstatSync(`${root}/${key}`, { throwIfNoEntry: false });
      if (stats?.isFile() !== true) return;
      facts[2 * at] = stats.size;
      // Rounded as `Stats.mtime` is: the same file must not look changed when another reader was asked.
      facts[2 * at + 1] = Math.floor(stats.mtimeMs + 0.5);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  });
  return { kind: "facts", facts };
}
