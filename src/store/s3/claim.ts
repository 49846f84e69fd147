/**
 * Lets one writer at a time complete an upload to a key. Servers such as Ceph 16 know If-None-Match on PUT and ignore it on
 * CompleteMultipartUpload, so two completions of one key would overwrite one another.
 *
 * A claim is a small object, created with a conditional PUT, that names the upload of its writer. Claims of a key are
 * numbered; the writer with the highest number is the one who may complete. A writer that finds a claim waits for its object.
 * When that does not come, it ends the upload that the claim names, which cannot be completed from then on, and only
 * then takes the next number. A claim is removed when the object is there, which later writers see first.
 *
 * Claims lie below `~claims/`: no key of a store begins with `~`, so no listing shows them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../../errors.ts";
import { throwIfAborted } from "../signal.ts";

export interface ClaimedKey {
  /** The store's key. */
  readonly key: string;
  /** The id of our own upload. */
  readonly uploadId: string;
  readonly signal: AbortSignal;
  /** `exists` when the object of this name is there. */
  putClaim(name: string, uploadId: string): Promise<"created" | "exists">;
  /** Undefined when there is none. */
  readClaim(name: string): Promise<string | undefined>;
  objectExists(): Promise<boolean>;
  /** Ends an upload to this key; one that is over already is success. */
  endUpload(uploadId: string): Promise<void>;
}

/** How long the writer of a claim is given: its completion is on its way, or it has died. */
const PATIENCE_MS = 15_000;
const LOOK_MS = 250;
const CLAIMS_MAX = 100;

export interface Claim {
  /** `claimed` when we may complete, `exists` when the object is there. */
  readonly kind: "claimed" | "exists";
  /** To be removed once the object is there. */
  readonly names: readonly string[];
}

export async function claim(place: ClaimedKey, patienceMs = PATIENCE_MS): Promise<Claim> {
  const names: string[] = [];
  for (let number = 1; number <= CLAIMS_MAX; number += 1) {
    const name = `~claims/${place.key}/${number}`;
    names.push(name);
    const isOurs = (await place.putClaim(name, place.uploadId)) === "created" || (await isOwn(place, name));
    if (isOurs) return { kind: (await place.objectExists()) ? "exists" : "claimed", names };
    if (await appears(place, patienceMs)) return { kind: "exists", names };
    const holder = await place.readClaim(name);
    if (holder !== undefined) await place.endUpload(holder);
    if (await place.objectExists()) return { kind: "exists", names };
  }
  throw new SeawallError("store-unavailable", `put ${place.key}: ${CLAIMS_MAX} writers began it and none has finished`);
}

/** After a lost answer of our own put. */
async function isOwn(place: ClaimedKey, name: string): Promise<boolean> {
  return (await place.readClaim(name)) === place.uploadId;
}

async function appears(place: ClaimedKey, patienceMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    if (await place.objectExists()) return true;
    if (performance.now() >= deadlineMs) return false;
    await sleep(LOOK_MS, undefined, { signal: place.signal }).catch(() => undefined);
    throwIfAborted(place.signal);
  }
}
