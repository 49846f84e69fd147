/** The worker thread of the codec pool: encodes what it is sent, one job at a time. */
import { parentPort } from "node:worker_threads";
import { encodeInto } from "./object.ts";
import type { EncodeJob, EncodeReply } from "./pool.ts";

parentPort?.on("message", (job: EncodeJob) => {
  try {
    const raw = new Uint8Array(job.buffer, job.offset, job.length);
    const { stored, storedCrc32c, rawCrc32c } = encodeInto(new Uint8Array(job.target), raw, job.meta, job.level);
    const reply: EncodeReply = { id: job.id, ok: true, storedBytes: stored.byteLength, storedCrc32c, rawCrc32c };
    parentPort?.postMessage(reply);
  } catch (error) {
    const reply: EncodeReply = {
      id: job.id,
      ok: false,
      message: error instanceof Error ? error.message : String(error),
    };
    parentPort?.postMessage(reply);
  }
});
