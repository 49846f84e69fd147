/**
 * A thread that reads pages of listings (list-thread.ts). It reads the flat records by itself and loads no SDK: in threads
 * of their own, the SDK's reader takes 20 µs of CPU for each object and 115 MiB in all, this one 2 µs and 10 MiB, and a
 * listing of a million objects must stay below 256 MiB. test/store/s3-list.test.ts compares the two.
 */
import { answerQuestions } from "../../worker-thread.ts";
import { isKey } from "../key.ts";
import { readPage } from "./list-page.ts";

export interface PageQuestion {
  /** The body of the answer. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** The prefix that was listed, in the bucket. */
  readonly prefix: string;
  /** Characters of the store's own prefix, which are cut off. */
  readonly cut: number;
}

/** The store's own objects, in columns, which pass between threads without a copy; undefined for an answer that is no page. */
export type PageAnswer =
  | {
      /** A line each: no key holds a line's end. */
      readonly keys: string;
      /** For each key its size, and when it was modified in ms. */
      readonly facts: Float64Array<ArrayBuffer>;
      readonly prefixes: readonly string[];
      readonly continuation: string | undefined;
    }
  | undefined;

answerQuestions<PageQuestion, PageAnswer>(
  ({ body, prefix, cut }) => {
    const page = readPage(Buffer.from(body.buffer).toString(), prefix);
    if (page === undefined) return undefined;
    const keys: string[] = [];
    const facts = new Float64Array(2 * page.objects.length);
    for (const { key, bytes, modifiedAt } of page.objects) {
      const own = key.slice(cut);
      if (!isKey(own)) continue;
      facts[2 * keys.length] = bytes;
      facts[2 * keys.length + 1] = modifiedAt.getTime();
      keys.push(own);
    }
    const { prefixes, continuation } = page;
    return { keys: keys.join("\n"), facts: facts.slice(0, 2 * keys.length), prefixes, continuation };
  },
  (answer) => (answer === undefined ? [] : [answer.facts.buffer]),
);
