/**
 * WAL as it lies in the archive: sealed segments, partials, chunks and timeline histories; written once, read checked.
 */
import type { Envelope, EnvelopeMeta } from "../../codec/envelope.ts";
import { type ClearPart, type Codec, type EnvelopePart, OWN_DIGEST } from "../../codec/codec.ts";
import type { EncodedObject } from "../../codec/object.ts";
import { invariant, SeawallError } from "../../errors.ts";
import type { PutResult, RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, formatLsn, parseLsn } from "../../wal/lsn.ts";
import { type PgTime, formatPgTime } from "../../wal/record-facts.ts";
import type { SegmentSummary } from "../../wal/summary.ts";
import { carryWithoutContent } from "../../wal/carry-without-content.ts";
import type { RecordCarry } from "../../wal/verifier.ts";
import type { Archive } from "../archive.ts";
import { changesJson } from "./change-json.ts";
import type { ClusterIdentity } from "../documents.ts";
import { type SegmentPlace, chunkKey, historyKey, partialKey, segmentKey, segmentName } from "../keys.ts";
import { putOnce, putPlainOnce } from "../put-once.ts";

/** Facts on a run of WAL when it is stored. */
export interface WalFacts {
  readonly startLsn: Lsn;
  /** End of the stored bytes that are WAL; a partial's zeros after it are padding. */
  readonly endLsn: Lsn;
  /** End of the last complete, valid record at or before `endLsn`; may lie before `startLsn` inside a long record. */
  readonly verifiedLsn: Lsn;
  /** Segments and partials: what the verifier counted in them. */
  readonly summary?: SegmentSummary | undefined;
  /** Segments that end inside a record: what is needed to go on verifying it. */
  readonly carry?: RecordCarry | undefined;
  /** When this was encoded, all of the timeline's WAL before this was durable; tells a hole from a loss (holes.ts). */
  readonly contiguousLsn?: Lsn | undefined;
  /** The digest (codec/age/digest.ts) of the segment's WAL up to `endLsn`; a sealed segment's is made with it. */
  readonly digest?: string | undefined;
}

export interface StoreWalOptions extends RequestOptions {
  /** Ask the store once more whether the object is there at its full size, before believing it. */
  readonly confirm: boolean;
}

/** Stores a complete segment. Throws `segment-conflict` and what the store throws. */
export async function putSegment(
  archive: Archive,
  place: SegmentPlace,
  raw: Uint8Array,
  facts: WalFacts,
  options: StoreWalOptions,
): Promise<StoredWal> {
  return putWal(archive, "segment", segmentKey(archive.cluster, place), place, raw, facts, options);
}

/** Stores the last segment of a finished timeline, `raw` zero-padded to segment size by the caller. */
export async function putPartial(
  archive: Archive,
  place: SegmentPlace,
  raw: Uint8Array,
  facts: WalFacts,
  options: StoreWalOptions,
): Promise<StoredWal> {
  return putWal(archive, "partial", partialKey(archive.cluster, place), place, raw, facts, options);
}

/** Stores bytes `start` to `start + raw.byteLength` of the open segment. */
export async function putChunk(
  archive: Archive,
  place: SegmentPlace,
  start: number,
  raw: Uint8Array,
  facts: WalFacts,
  options: StoreWalOptions,
): Promise<StoredWal> {
  const key = chunkKey(archive.cluster, place, start, start + raw.byteLength);
  return putWal(archive, "chunk", key, place, raw, facts, options);
}

/** An object ready to be stored. Its maker stores it, or leaves it to the garbage collector. */
export interface EncodedWal {
  readonly key: string;
  readonly encoded: EncodedObject;
}

/** Does the first half of `putSegment`: once it resolves, `raw` is read no more. */
export async function encodeSegment(
  archive: Archive,
  place: SegmentPlace,
  raw: Uint8Array,
  facts: WalFacts,
): Promise<EncodedWal> {
  const meta = walMeta(archive, "segment", place, facts);
  const encoded = await archive.codec.encode(raw, meta, clearPart(meta, OWN_DIGEST));
  return { key: segmentKey(archive.cluster, place), encoded };
}

/** Encodes a segment into its own memory, which ends with `place.segmentSize` bytes of content. */
export async function encodeSegmentInPlace(
  archive: Archive,
  place: SegmentPlace,
  memory: SharedArrayBuffer,
  facts: WalFacts,
): Promise<EncodedWal> {
  const meta = walMeta(archive, "segment", place, facts);
  const encoded = await archive.codec.encodeInPlace(memory, place.segmentSize, meta, clearPart(meta, OWN_DIGEST));
  return { key: segmentKey(archive.cluster, place), encoded };
}

export interface StoredWal {
  readonly key: string;
  readonly storedBytes: number;
  /** zstd's level, where this process encoded it. */
  readonly level: number | undefined;
  readonly result: PutResult;
}

async function putWal(
  archive: Archive,
  kind: "segment" | "partial" | "chunk",
  key: string,
  place: SegmentPlace,
  raw: Uint8Array,
  facts: WalFacts,
  options: StoreWalOptions,
): Promise<StoredWal> {
  const meta = walMeta(archive, kind, place, facts);
  const digest = kind === "segment" ? OWN_DIGEST : facts.digest;
  // Without it no receiver could go on behind this object.
  invariant(digest !== undefined || archive.codec.recipients === undefined, `an encrypted ${kind} without a digest`);
  // A commit waits for this: a part that is not stored is not made.
  const clear = archive.codec.recipients === undefined ? undefined : clearPart(meta, digest);
  const encoded = await archive.codec.encode(raw, meta, clear);
  return storeEncoded(archive, { key, encoded }, options);
}

/** The second half: may be tried again after an error. Throws `segment-conflict` and what the store throws. */
export async function storeEncoded(
  archive: Archive,
  { key, encoded }: EncodedWal,
  options: StoreWalOptions,
): Promise<StoredWal> {
  const { signal } = options;
  const result = await putOnce(archive, key, encoded, { signal });
  const storedBytes = encoded.stored.byteLength;
  if (options.confirm && result === "created") {
    const seen = await archive.store.head(key, { signal });
    if (seen?.bytes !== storedBytes && !(await hasNewHeader(archive, { key, encoded }, { signal }))) {
      throw new SeawallError(
        "store-lied",
        `${archive.store.description} confirmed ${key} with ${storedBytes} bytes but has ${seen?.bytes ?? "none"}`,
      );
    }
  }
  // Only now: after an error a request that was given up may still be reading it.
  encoded.release?.();
  return { key, storedBytes, level: encoded.level, result };
}

/** True when the object is ours behind another header: `seawall rekey` has replaced it since we stored it. */
async function hasNewHeader(
  { store, codec }: Archive,
  { key, encoded }: EncodedWal,
  options: RequestOptions,
): Promise<boolean> {
  if (codec.recipients === undefined) return false;
  const range = { offset: 0, length: codec.envelopeBytesMax() };
  const found = await store.get(key, { ...options, range });
  if (found === undefined || !codec.isEncrypted(found.body)) return false;
  const [ours, theirs] = await Promise.all([
    codec.readEnvelope(encoded.stored, key),
    codec.readEnvelope(found.body, key),
  ]);
  const { contentOffset, contentBytes = 0, encryption } = theirs;
  const isSame = contentBytes === ours.contentBytes && encryption?.digest === ours.encryption?.digest;
  return isSame && found.objectBytes === contentOffset + contentBytes;
}

function walMeta(archive: Archive, kind: string, place: SegmentPlace, facts: WalFacts): EnvelopeMeta {
  const { summary, carry, contiguousLsn } = facts;
  const meta: Record<string, unknown> = {
    kind,
    systemIdentifier: archive.identity.systemIdentifier.toString(),
    timeline: place.timeline,
    segment: segmentName(place),
    start: formatLsn(facts.startLsn),
    end: formatLsn(facts.endLsn),
    verified: formatLsn(facts.verifiedLsn),
  };
  if (summary !== undefined) meta["records"] = summary.recordCount;
  if (summary?.isRead === true) Object.assign(meta, contentsMeta(summary));
  if (carry !== undefined) meta["carry"] = carry;
  if (contiguousLsn !== undefined) meta["contiguous"] = formatLsn(contiguousLsn);
  return meta;
}

/**
 * The facts that an encrypted object states in the clear: where its WAL lies, how much was counted in it, and when. Names that
 * people gave, paths, and bytes of records are not among them.
 */
export function clearPart(meta: EnvelopeMeta, digest: string | undefined): ClearPart {
  const clear = Object.fromEntries(Object.entries(meta).filter(([name]) => CLEAR_FACTS.has(name)));
  const { carry } = meta;
  if (carry === undefined) return { meta: clear, digest };
  return { meta: { ...clear, carry: carryWithoutContent(carry as RecordCarry) }, digest };
}

/** Another fact is encrypted until it is named here. */
const CLEAR_FACTS: ReadonlySet<string> = new Set([
  ...["kind", "systemIdentifier", "timeline", "segment", "start", "end", "verified", "contiguous"],
  ...["records", "commits", "aborts", "firstCommitAt", "lastCommitAt"],
]);

/** Facts from the contents of records. */
function contentsMeta(summary: SegmentSummary): EnvelopeMeta {
  return {
    commits: summary.commitCount,
    aborts: summary.abortCount,
    firstCommitAt: timeText(summary.firstCommitTime),
    lastCommitAt: timeText(summary.lastCommitTime),
    restorePoints: summary.restorePoints.map(({ name, time, lsn }) => ({
      name,
      at: timeText(time),
      lsn: formatLsn(lsn),
    })),
    changes: changesJson(summary.changes),
  };
}

function timeText(time: PgTime | undefined): string | undefined {
  return time === undefined ? undefined : formatPgTime(time);
}

/** An envelope's facts on its WAL, parsed and checked against the place where it was found. */
export interface StoredFacts {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly verifiedLsn: Lsn;
  readonly carry: RecordCarry | undefined;
  /** Undefined where the object does not say. */
  readonly contiguousLsn: Lsn | undefined;
  readonly envelope: Envelope;
}

/** Throws `object-corrupt`, or `foreign-cluster` when the object was written for another system identifier. */
export function parseFacts(
  identity: Pick<ClusterIdentity, "systemIdentifier">,
  envelope: Envelope,
  key: string,
  place: SegmentPlace,
): StoredFacts {
  const { meta } = envelope;
  const text = (name: string): string => {
    const value = meta[name];
    if (typeof value !== "string") throw new SeawallError("object-corrupt", `${key}: its envelope lacks "${name}"`);
    return value;
  };
  if (text("systemIdentifier") !== identity.systemIdentifier.toString()) {
    throw new SeawallError("foreign-cluster", `${key} holds WAL of system identifier ${text("systemIdentifier")}`);
  }
  if (text("segment") !== segmentName(place)) {
    throw new SeawallError("object-corrupt", `${key} holds segment ${text("segment")}`);
  }
  return {
    startLsn: parseLsn(text("start")),
    endLsn: parseLsn(text("end")),
    verifiedLsn: parseLsn(text("verified")),
    // The envelope's own CRC-32C vouches that this is the document the verifier gave us.
    carry: meta["carry"] as RecordCarry | undefined,
    contiguousLsn: meta["contiguous"] === undefined ? undefined : parseLsn(text("contiguous")),
    envelope,
  };
}

export interface ReadWal extends StoredFacts {
  readonly raw: Buffer;
}

export interface ReadWalOptions extends RequestOptions {
  /** Memory to decode into, if it is large enough; `raw` is then a view of it. */
  readonly into?: Uint8Array<ArrayBuffer> | undefined;
}

/** A sealed segment, decoded and checked; undefined when the healthy store has none. */
export async function readSegment(
  archive: Archive,
  place: SegmentPlace,
  options: ReadWalOptions = {},
): Promise<ReadWal | undefined> {
  return readWal(archive, segmentKey(archive.cluster, place), place, options);
}

export async function readPartial(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<ReadWal | undefined> {
  return readWal(archive, partialKey(archive.cluster, place), place, options);
}

/** Any WAL object by its key; `segment` and `partial` must hold exactly one segment's size. */
export async function readWal(
  archive: Archive,
  key: string,
  place: SegmentPlace,
  options: ReadWalOptions = {},
): Promise<ReadWal | undefined> {
  const { into, signal } = options;
  const found = await archive.store.get(key, { signal });
  if (found === undefined) return undefined;
  return decodeWal(archive, found.body, { key, place, into });
}

/** Decodes what `readWal` has read. Throws `object-corrupt` and `foreign-cluster`. */
export async function decodeWal(
  { codec, identity }: { readonly codec: Codec; readonly identity: Pick<ClusterIdentity, "systemIdentifier"> },
  stored: Uint8Array,
  { key, place, into }: { readonly key: string; readonly place: SegmentPlace; readonly into?: ReadWalOptions["into"] },
): Promise<ReadWal> {
  const { envelope, raw } = await codec.decode(stored, { key, rawBytesMax: place.segmentSize, into });
  const facts = parseFacts(identity, envelope, key, place);
  if (envelope.meta["kind"] !== "chunk" && raw.byteLength !== place.segmentSize) {
    throw new SeawallError("object-corrupt", `${key} holds ${raw.byteLength} bytes, a segment ${place.segmentSize}`);
  }
  return { ...facts, raw };
}

export interface PeekOptions extends RequestOptions {
  /** `full` for facts that are under encryption: they are there when the archive's codec has an identity. */
  readonly part?: EnvelopePart | undefined;
}

/** Reads only what a stored segment or partial says of itself: one small ranged read. */
export async function peekWal(
  archive: Archive,
  kind: "segment" | "partial",
  place: SegmentPlace,
  options: PeekOptions = {},
): Promise<StoredFacts | undefined> {
  const key = kind === "segment" ? segmentKey(archive.cluster, place) : partialKey(archive.cluster, place);
  return peekObject(archive, key, place, options);
}

/** Reads only what a stored WAL object says of itself. */
export async function peekObject(
  archive: Archive,
  key: string,
  place: SegmentPlace,
  { part = "clear", signal }: PeekOptions = {},
): Promise<StoredFacts | undefined> {
  const { store, codec, identity } = archive;
  const found = await store.get(key, { signal, range: { offset: 0, length: codec.envelopeBytesMax(part) } });
  if (found === undefined) return undefined;
  return parseFacts(identity, await codec.readEnvelope(found.body, key, part), key, place);
}

/** A timeline history file is stored as it is: small text that people read. Throws `segment-conflict`. */
export async function putHistory(
  archive: Archive,
  timeline: TimelineId,
  content: Uint8Array,
  options: RequestOptions = {},
): Promise<PutResult> {
  return putPlainOnce(archive.store, historyKey(archive.cluster, timeline), content, options);
}

export async function readHistory(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions = {},
): Promise<Uint8Array | undefined> {
  return (await archive.store.get(historyKey(archive.cluster, timeline), options))?.body;
}
