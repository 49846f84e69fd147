/** The worker thread of the codec pool: does one job at a time. */
import { assertNever } from "../errors.ts";
import { answerQuestions } from "../worker-thread.ts";
import { sealInPlace } from "./age/payload.ts";
import { compressFrame } from "./frame.ts";
import { encodeInPlace, encodeInto } from "./object.ts";
import type { CodecJob, CodecResult } from "./pool.ts";

answerQuestions<CodecJob, CodecResult>(work);

async function work(job: CodecJob): Promise<CodecResult> {
  const source = new Uint8Array(job.buffer, job.offset, job.length);
  const target = new Uint8Array(job.target);
  switch (job.kind) {
    case "encode": {
      const { stored, storedCrc32c, rawCrc32c } = encodeInto(target, source, job.meta, job.level, job.sealing);
      return { bytes: stored.byteLength, storedCrc32c, rawCrc32c };
    }
    case "encode-in-place": {
      const { stored, storedCrc32c, rawCrc32c } = await encodeInPlace(
        target,
        job.length,
        job.meta,
        job.level,
        job.sealing,
      );
      return { bytes: stored.byteLength, storedCrc32c, rawCrc32c };
    }
    case "seal":
      return { bytes: sealInPlace(target, job.length, 0, job.key, job.pieces), storedCrc32c: 0, rawCrc32c: 0 };
    case "compress":
      return { bytes: compressFrame(target, source, job.level), storedCrc32c: 0, rawCrc32c: 0 };
    default:
      return assertNever(job);
  }
}
