/**
 * Keeps WAL that does not verify before the receiver stops: the received bytes of its segment, to be compared with the
 * server's own file. It is never acknowledged and not part of the archive.
 */
import { evidenceKey } from "../archive/keys.ts";
import type { Archive } from "../archive/archive.ts";
import { putOnce } from "../archive/put-once.ts";
import type { Log } from "../log.ts";
import { deadline } from "../signals.ts";
import type { OpenSegment } from "./assembler.ts";

const TIMEOUT_MS = 10_000;

/** Stores what was received of `open`; a failure to do so is logged, not thrown: the first error is the one that counts. */
export async function keepEvidence(
  archive: Archive,
  open: OpenSegment,
  options: { readonly log: Log; readonly nowMs: number; readonly error: Error },
): Promise<void> {
  const { log, nowMs, error } = options;
  const key = evidenceKey(archive.cluster, open.place, nowMs);
  const raw = open.buffer.bytes.subarray(0, open.received);
  try {
    const meta = {
      kind: "evidence",
      reason: error.message,
      systemIdentifier: archive.identity.systemIdentifier.toString(),
    };
    // The reason may quote the record, so all of it goes under encryption.
    const encoded = await archive.codec.encode(raw, meta, { meta: { kind: meta.kind } });
    using limit = deadline(TIMEOUT_MS);
    await putOnce(archive, key, encoded, { signal: limit.signal });
    log.error("kept the WAL that does not verify", { key, bytes: raw.byteLength });
  } catch (failure) {
    log.error("could not keep the WAL that does not verify", { key, error: failure });
  }
}
