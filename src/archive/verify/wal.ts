/**
 * Verifies sealed segments and partials, folder by folder: their envelopes against their keys and sizes, and with
 * `deep` every record in them.
 */
import { SeawallError } from "../../errors.ts";
import type { GetResult, RequestOptions } from "../../store/store.ts";
import { type SegmentNumber, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { RecordCarry } from "../../wal/verifier.ts";
import type { WalChange } from "../../wal/wal-changes.ts";
import type { Archive } from "../archive.ts";
import { mapBounded, readAhead } from "../bounded.ts";
import { MINIMAL_REASON, type MinimalRecord, minimalIn } from "../wal/breaks.ts";
import { parseChanges } from "../wal/change-json.ts";
import { damageOf, unlessLocked } from "../damage.ts";
import type { Gap } from "../documents.ts";
import { partialKey, type SegmentPlace, segmentKey, segmentName } from "../keys.ts";
import { hasKnownRecords } from "../wal/known-records.ts";
import { carryInto } from "../wal/tip.ts";
import type { VerifyCrew, VerifyQuestion, VerifyThread } from "./questions.ts";
import { checkFacts, type FoundWal } from "./facts.ts";
import { breakMessage, type Findings } from "./report.ts";
import { digestOfSegments, type ProofLevel, proves, type ProvenWal } from "./state.ts";
import { type ListedWal, listFolder, type WalFolder } from "../wal/folders.ts";
import { peekObject } from "../wal/objects.ts";
import { type WalkedRecord, walkSegment } from "../wal/walk.ts";

/** A folder with something to look at. */
export interface PendingFolder {
  readonly timeline: TimelineId;
  readonly prefix: string;
  /** Earlier proofs that still hold. */
  readonly known: readonly ProvenWal[];
  /** Stored bytes of what is to be looked at. */
  readonly bytes: number;
}

export interface VerifyWalOptions extends RequestOptions {
  readonly deep: boolean;
  /** Pieces of WAL read at the same time, each by a thread of the crew. */
  readonly jobs: number;
  readonly crew: VerifyCrew;
  readonly findings: Findings;
  readonly histories: ReadonlyMap<TimelineId, TimelineHistory>;
  /** The recorded breaks, from the catalog. */
  readonly breaks: readonly Gap[];
  /** Segments before this one serve no backup. */
  readonly from: SegmentNumber;
  readonly onBytes: (bytes: number) => void;
}

const PEEKS_IN_FLIGHT = 16;
/** Segments that are read one after another with --deep: the state at their border comes from the envelope before. */
const PIECE_SEGMENTS = 16;

export const folderName = (prefix: string): string => prefix.slice(-9, -1);

/** The proof that a run of this kind is content with. */
export function wantedLevel(archive: Archive, deep: boolean): ProofLevel {
  if (deep) return "content";
  return archive.codec.identities === undefined ? "clear" : "envelope";
}

/** Picks the objects of a folder to look at: those not proven at this level, and those changed since. Pure. */
export function pendingOf(
  folder: WalFolder,
  proven: readonly ProvenWal[],
  options: { readonly from: SegmentNumber; readonly wanted: ProofLevel },
): { readonly pending: PendingFolder | undefined; readonly known: readonly ProvenWal[]; readonly unchanged: number } {
  const { timeline, prefix } = folder;
  const segments = folder.segments.filter(({ segment }) => segment >= options.from);
  const known = proven.filter(
    ({ first, last, digest }) => first >= options.from && digestOfSegments(segments, first, last) === digest,
  );
  const wanted = segments.filter(({ segment }) => !isKnown(known, segment, options.wanted));
  const partials = folder.partials.filter(({ segment }) => segment >= options.from);
  const bytes = [...wanted, ...partials].reduce((sum, listed) => sum + listed.bytes, 0);
  const isDone = wanted.length === 0 && partials.length === 0;
  return {
    pending: isDone ? undefined : { timeline, prefix, known, bytes },
    known,
    unchanged: segments.length - wanted.length,
  };
}

function isKnown(known: readonly ProvenWal[], segment: SegmentNumber, wanted: ProofLevel): boolean {
  return known.some(({ first, last, level }) => first <= segment && segment <= last && proves(level, wanted));
}

/** Looks at a folder; resolves with what is proven of it now. Throws what the store throws. */
export async function verifyFolder(
  archive: Archive,
  pending: PendingFolder,
  options: VerifyWalOptions,
): Promise<ProvenWal[]> {
  const { deep, from, findings, signal } = options;
  const { timeline, known } = pending;
  const folder = await listFolder(archive, pending, { signal });
  const segments = folder.segments.filter(({ segment }) => segment >= from);
  const level = wantedLevel(archive, deep);
  const wanted = segments.filter(({ segment }) => !isKnown(known, segment, level));
  const provenAt = (least: ProofLevel): Set<SegmentNumber> =>
    new Set(segments.flatMap(({ segment }) => (isKnown(known, segment, least) ? [segment] : [])));
  const [good, read] = [provenAt(level), provenAt("envelope")];
  const check = deep ? readPieces : peekSegments;
  for (const { segment, isRead } of await check(archive, timeline, wanted, options)) {
    good.add(segment);
    if (isRead) read.add(segment);
  }
  const partials = folder.partials.filter(({ segment }) => segment >= from);
  for (const partial of partials) await verifyPartial(archive, timeline, partial, options);
  findings.checked.segments += wanted.length;
  findings.checked.partials += partials.length;
  if (deep) return proofOf(folder, segments, { good, level });
  return [
    ...known.filter((proof) => proof.level === "content"),
    ...proofOf(folder, segments, { good: read, level: "envelope" }),
    // What was not read is read when an identity comes.
    ...(good.size > read.size ? proofOf(folder, segments, { good, level: "clear" }) : []),
  ];
}

/** A segment without a finding. */
interface GoodSegment {
  readonly segment: SegmentNumber;
  /** False for one whose envelope is encrypted to others in part. */
  readonly isRead: boolean;
}

/** The first ones in a row that are good. */
function proofOf(
  { timeline, prefix }: WalFolder,
  segments: readonly ListedWal[],
  { good, level }: { readonly good: ReadonlySet<SegmentNumber>; readonly level: ProofLevel },
): ProvenWal[] {
  const bad = segments.findIndex(({ segment }) => !good.has(segment));
  const [first] = segments;
  const last = bad < 0 ? segments.at(-1) : segments[bad - 1];
  if (first === undefined || last === undefined) return [];
  const digest = digestOfSegments(segments, first.segment, last.segment);
  return [{ timeline, folder: folderName(prefix), level, first: first.segment, last: last.segment, digest }];
}

/** Resolves with the good ones. */
async function peekSegments(
  archive: Archive,
  timeline: TimelineId,
  wanted: readonly ListedWal[],
  options: VerifyWalOptions,
): Promise<GoodSegment[]> {
  const { findings, onBytes, signal } = options;
  const { segmentSize } = archive.identity;
  const found = await mapBounded(wanted, PEEKS_IN_FLIGHT, async (listed) => {
    const place = { timeline, segment: listed.segment, segmentSize };
    const key = segmentKey(archive.cluster, place);
    try {
      const facts = await peekObject(archive, key, place, { part: "full", signal });
      if (facts === undefined) throw vanished(place);
      await checkListed(archive, key, { place, storedBytes: listed.bytes, facts, kind: "segment" }, { signal });
      const minimal = minimalIn(parseChanges(facts.envelope.meta["changes"]) ?? []);
      const { encryption } = facts.envelope;
      findings.stretches.add(place, encryption?.to);
      const isRead = encryption?.isOpen !== false;
      if (!isRead) findings.noteLocked(encryption.to.join(", "));
      return reportBreaks(minimal, key, place, options) ? [] : [{ segment: listed.segment, isRead }];
    } catch (error) {
      findings.reportWal(key, damageOf(error), place);
      return [];
    } finally {
      onBytes(listed.bytes);
    }
  });
  return found.flat();
}

/**
 * Reports records that no recovery passes and no document names: an earlier Seawall archived them. True when there are some:
 * the segment is then looked at again the next time.
 */
export function reportBreaks(
  minimal: readonly MinimalRecord[],
  key: string,
  { timeline }: SegmentPlace,
  { breaks, findings }: Pick<VerifyWalOptions, "breaks" | "findings">,
): boolean {
  const unknown = minimal.filter(({ lsn }) => !breaks.some(({ fromLsn }) => fromLsn === lsn));
  for (const { lsn, end } of unknown) {
    const lost = { timeline, fromLsn: lsn, toLsn: end };
    findings.report({ kind: "gap", object: key, message: breakMessage(lsn, MINIMAL_REASON) }, lost);
  }
  return unknown.length > 0;
}

/** Compares facts with the size as listed. An encrypted object may have got another header since (`seawall rekey`): then with its size now. */
async function checkListed(archive: Archive, key: string, found: FoundWal, options: RequestOptions): Promise<void> {
  const { contentOffset, contentBytes = 0, encryption } = found.facts.envelope;
  if (encryption === undefined || contentOffset + contentBytes === found.storedBytes) return checkFacts(key, found);
  const now = await archive.store.head(key, options);
  checkFacts(key, { ...found, storedBytes: now?.bytes ?? found.storedBytes });
}

function vanished(place: SegmentPlace): SeawallError {
  return new SeawallError("wal-gap", `${segmentName(place)} vanished while it was verified`);
}

async function verifyPartial(
  archive: Archive,
  timeline: TimelineId,
  listed: ListedWal,
  options: VerifyWalOptions,
): Promise<void> {
  const { deep, findings, onBytes, signal } = options;
  const place = { timeline, segment: listed.segment, segmentSize: archive.identity.segmentSize };
  const key = partialKey(archive.cluster, place);
  try {
    const facts = await peekObject(archive, key, place, { signal });
    if (facts === undefined) throw vanished(place);
    await checkListed(archive, key, { place, storedBytes: listed.bytes, facts, kind: "partial" }, { signal });
    if (!deep) return;
    const changes: WalChange[] = [];
    const visit = ({ change }: WalkedRecord): void => {
      findings.checked.records++;
      if (change !== undefined) changes.push(change);
    };
    const walking = walkSegment(archive, { ...place, kind: "partial" }, visit, { signal, takesNewer: true });
    if ((await unlessLocked(walking)) === "locked") findings.noteLocked(facts.envelope.encryption?.to.join(", "));
    reportBreaks(minimalIn(changes), key, place, options);
    findings.checked.readBytes += listed.bytes;
  } catch (error) {
    findings.reportWal(key, damageOf(error), place);
  } finally {
    onBytes(listed.bytes);
  }
}

/** Reads every record; resolves with the good ones. */
async function readPieces(
  archive: Archive,
  timeline: TimelineId,
  wanted: readonly ListedWal[],
  options: VerifyWalOptions,
): Promise<GoodSegment[]> {
  const pieces: ListedWal[][] = [];
  for (const listed of wanted) {
    const piece = pieces.at(-1);
    const before = piece?.at(-1);
    if (piece !== undefined && piece.length < PIECE_SEGMENTS && before?.segment === listed.segment - 1)
      piece.push(listed);
    else pieces.push([listed]);
  }
  const { crew, jobs } = options;
  const good = await mapBounded(pieces, jobs, (piece) =>
    crew.lend((thread) => readPiece(archive, { timeline, piece, thread }, options)),
  );
  return good.flat();
}

async function readPiece(
  archive: Archive,
  input: { readonly timeline: TimelineId; readonly piece: readonly ListedWal[]; readonly thread: VerifyThread },
  options: VerifyWalOptions,
): Promise<GoodSegment[]> {
  const { timeline, piece, thread } = input;
  const { findings, onBytes, signal } = options;
  const good: GoodSegment[] = [];
  const found = piece.map(({ segment, bytes }) => {
    const place = { timeline, segment, segmentSize: archive.identity.segmentSize };
    return { place, bytes, key: segmentKey(archive.cluster, place) };
  });
  const read = async ({ key }: { readonly key: string }, stop: AbortSignal): Promise<GetResult | undefined> =>
    archive.store.get(key, { signal: stop });
  let isChained = false;
  // The one being verified and the one on its way.
  for await (const { item, result } of readAhead(found, 1, read, { signal })) {
    const { place, bytes, key } = item;
    try {
      const body = (await result)?.body;
      if (body === undefined) throw vanished(place);
      // An encrypted object states its size, and it may have another header than when it was listed.
      if (body.byteLength !== bytes && !archive.codec.isEncrypted(body)) throw resized(key, body.byteLength, bytes);
      findings.stretches.add(place, archive.codec.recipientsOf(body, key));
      if (!isChained) await thread.ask(await startOfChain(archive, place, options));
      // The thread is given a copy: the store's memory may be shared.
      const stored = new Uint8Array(body);
      const answer = await thread.ask({ kind: "segment", key, place, stored }, [stored.buffer]);
      const { count, minimal = [], lockedTo } = answer;
      isChained = lockedTo === undefined;
      findings.checked.records += count;
      // What was not read is no proof.
      if (lockedTo !== undefined) findings.noteLocked(lockedTo);
      else if (!reportBreaks(minimal, key, place, options)) good.push({ segment: place.segment, isRead: true });
    } catch (error) {
      isChained = false;
      findings.reportWal(key, damageOf(error), place);
    }
    findings.checked.readBytes += bytes;
    onBytes(bytes);
  }
  return good;
}

function resized(key: string, bytes: number, listed: number): SeawallError {
  return new SeawallError("object-corrupt", `${key}: has ${bytes} bytes, ${listed} were listed`);
}

async function startOfChain(
  archive: Archive,
  { timeline, segment, segmentSize }: SegmentPlace,
  { histories, signal }: VerifyWalOptions,
): Promise<VerifyQuestion> {
  const { systemIdentifier, pgMajor } = archive.identity;
  const majorVersion = hasKnownRecords(archive.identity) ? undefined : pgMajor;
  const history = histories.get(timeline) ?? { timeline, entries: [] };
  let carry: RecordCarry | undefined;
  try {
    carry = await carryInto(archive, history, segment, { signal });
  } catch (error) {
    // The segment before is damaged: that is its own finding, and a record that crosses the border is skipped.
    damageOf(error);
  }
  const startLsn = segmentStart(segment, segmentSize);
  const identities = archive.codec.identities?.texts;
  return { kind: "chain", systemIdentifier, segmentSize, majorVersion, history, carry, startLsn, identities };
}
