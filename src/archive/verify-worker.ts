/** The thread of a deep verification: decodes segments and verifies their records, takes parts of backups apart. */
import { assertNever, invariant } from "../errors.ts";
import type { Lsn } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import { type RecordCarry, WalVerifier } from "../wal/verifier.ts";
import { answerQuestions } from "../worker-thread.ts";
import type { MinimalRecord } from "./breaks.ts";
import type { SegmentPlace } from "./keys.ts";
import { PartContents, type PartToCheck } from "./part-check.ts";
import { checkFacts } from "./verify-facts.ts";
import { decodeWal } from "./wal-objects.ts";

export type VerifyQuestion =
  /** The segments that follow, one after the other; ends with the first one that is damaged. */
  | {
      readonly kind: "chain";
      readonly systemIdentifier: bigint;
      readonly segmentSize: number;
      readonly history: TimelineHistory;
      readonly carry: RecordCarry | undefined;
      readonly startLsn: Lsn;
    }
  | {
      readonly kind: "segment";
      readonly key: string;
      readonly place: SegmentPlace;
      readonly stored: Uint8Array<ArrayBuffer>;
    }
  /** What follows is stored bytes of this part. */
  | { readonly kind: "part"; readonly input: PartToCheck }
  | { readonly kind: "data"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end" };

export interface VerifyAnswer {
  /** Records of a segment; files of a part, at its end. */
  readonly count: number;
  /** Of a segment: records that no recovery passes. */
  readonly minimal?: readonly MinimalRecord[];
}

const NOTHING: VerifyAnswer = { count: 0 };

let chain: { readonly verifier: WalVerifier; readonly systemIdentifier: bigint } | undefined;
let part: PartContents | undefined;
/** A segment's content: memory that was used before is quicker than fresh memory. */
let memory = new Uint8Array(0);

answerQuestions<VerifyQuestion, VerifyAnswer>((question) => {
  switch (question.kind) {
    case "chain": {
      const { systemIdentifier } = question;
      chain = { verifier: new WalVerifier(question), systemIdentifier };
      return NOTHING;
    }
    case "segment":
      return checkSegment(question);
    case "part":
      part = new PartContents(question.input);
      return NOTHING;
    case "data":
      part?.push(question.bytes);
      return NOTHING;
    case "end":
      return { count: part?.end() ?? 0 };
    default:
      return assertNever(question);
  }
});

function checkSegment({ key, place, stored }: VerifyQuestion & { readonly kind: "segment" }): VerifyAnswer {
  const current = chain;
  chain = undefined;
  invariant(current !== undefined, "a segment without a chain");
  if (memory.byteLength < place.segmentSize) memory = new Uint8Array(place.segmentSize);
  const found = decodeWal(current, stored, { key, place, into: memory });
  checkFacts(key, { place, storedBytes: stored.byteLength, facts: found, kind: "segment" });
  current.verifier.push(found.raw);
  chain = current;
  const count = current.verifier.takeSummaries().reduce((sum, { recordCount }) => sum + recordCount, 0);
  return { count, minimal: current.verifier.takeMinimal().map(({ lsn, end }) => ({ lsn, end })) };
}
