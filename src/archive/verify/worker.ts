/** The thread of a deep verification: decodes segments and verifies their records, takes parts of backups apart. */
import { Identities } from "../../codec/age/identities.ts";
import { Codec } from "../../codec/codec.ts";
import { assertNever, invariant } from "../../errors.ts";
import { WalVerifier } from "../../wal/verifier.ts";
import { answerQuestions } from "../../worker-thread.ts";
import { unlessLocked } from "../damage.ts";
import { PartContents } from "./part.ts";
import { checkFacts } from "./facts.ts";
import type { VerifyAnswer, VerifyQuestion } from "./questions.ts";
import { decodeWal, parseFacts } from "../wal/objects.ts";

const NOTHING: VerifyAnswer = { count: 0 };

interface Chain {
  readonly verifier: WalVerifier;
  readonly identity: { readonly systemIdentifier: bigint };
  readonly codec: Codec;
}

let chain: Chain | undefined;
let part: PartContents | undefined;
/** A segment's content: memory that was used before is quicker than fresh memory. */
let memory = new Uint8Array(0);

answerQuestions<VerifyQuestion, VerifyAnswer>(async (question) => {
  switch (question.kind) {
    case "chain": {
      const { systemIdentifier, identities } = question;
      const codec = new Codec({ identities: identities === undefined ? undefined : new Identities(identities) });
      chain = { verifier: new WalVerifier(question), identity: { systemIdentifier }, codec };
      return NOTHING;
    }
    case "segment":
      return checkSegment(question);
    case "part":
      part = new PartContents(question.input);
      return NOTHING;
    case "data":
      await part?.push(question.bytes);
      return NOTHING;
    case "end":
      return { count: (await part?.end()) ?? 0 };
    default:
      return assertNever(question);
  }
});

async function checkSegment({
  key,
  place,
  stored,
}: VerifyQuestion & { readonly kind: "segment" }): Promise<VerifyAnswer> {
  const current = chain;
  chain = undefined;
  invariant(current !== undefined, "a segment without a chain");
  if (memory.byteLength < place.segmentSize) memory = new Uint8Array(place.segmentSize);
  const found = await unlessLocked(decodeWal(current, stored, { key, place, into: memory }));
  if (found === "locked") {
    const envelope = await current.codec.check(stored, { key, rawBytesMax: place.segmentSize });
    const facts = parseFacts(current.identity, envelope, key, place);
    checkFacts(key, { place, storedBytes: stored.byteLength, facts, kind: "segment" });
    return { count: 0, lockedTo: envelope.encryption?.to.join(", ") };
  }
  checkFacts(key, { place, storedBytes: stored.byteLength, facts: found, kind: "segment" });
  current.verifier.push(found.raw);
  chain = current;
  const count = current.verifier.takeSummaries().reduce((sum, { recordCount }) => sum + recordCount, 0);
  return { count, minimal: current.verifier.takeMinimal().map(({ lsn, end }) => ({ lsn, end })) };
}
