/**
 * An audit from outside: reads an archive with nothing but a store, verifies all of it record by record, and compares it
 * with the WAL of the server it came from. Sealed segments never change, so each is looked at once; the tail every time.
 */
import { openRunArchive } from "../harness/encryption.ts";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Archive } from "../../src/archive/archive.ts";
import { readIdentity } from "../../src/archive/identity.ts";
import { parseWalKey, timelinePrefix } from "../../src/archive/keys.ts";
import { firstDifference } from "../../src/archive/put-once.ts";
import { readTail } from "../../src/archive/wal/tail.ts";
import { type Tip, findTip, historyOf } from "../../src/archive/wal/tip.ts";
import { readSegment } from "../../src/archive/wal/objects.ts";
import type { Store } from "../../src/store/store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, formatLsn, segmentStart } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type RecordCarry, type VerifiedRecord, WalVerifier } from "../../src/wal/verifier.ts";

export interface AuditOptions {
  readonly store: Store;
  /** Where the server keeps its WAL; every archived segment must still be there. */
  readonly walDir: string;
  readonly timeline?: number;
  readonly onRecord?: (record: VerifiedRecord) => void;
}

export interface Audited {
  readonly tip: Tip | undefined;
  /** Sealed segments on the timeline, in all. */
  readonly sealed: number;
  /** Sealed segments behind a hole: what parallel PUTs may leave when the receiver is killed. */
  readonly behindHole: number;
  /** End of the last complete record that the audit itself verified. */
  readonly verifiedLsn: Lsn | undefined;
}

export class ArchiveAudit {
  readonly #options: AuditOptions;
  readonly #timeline: TimelineId;
  readonly #equal = new Set<SegmentNumber>();
  /** The contiguous sealed segments verified so far: where the next one goes on. */
  #next: { segment: SegmentNumber; carry: RecordCarry | undefined } | undefined;

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#timeline = (options.timeline ?? 1) as TimelineId;
  }

  /** Throws when anything in the archive is not what the server wrote, does not verify, or contradicts itself. */
  async check(triesLeft = 5): Promise<Audited> {
    const { store } = this.#options;
    if ((await readIdentity(store, "main")) === undefined) {
      return { tip: undefined, sealed: 0, behindHole: 0, verifiedLsn: undefined };
    }
    const archive = await openRunArchive(store, "main");
    const sealed = await this.#listSealed(archive);
    const tip = await findTip(archive);
    const first = sealed[0] ?? tip?.segment;
    if (tip === undefined || first === undefined) {
      return { tip, sealed: sealed.length, behindHole: 0, verifiedLsn: undefined };
    }
    const have = new Set(sealed);
    this.#next ??= { segment: first, carry: undefined };
    while (have.has(this.#next.segment)) await this.#verifyNext(archive);
    const { segment } = this.#next;
    const behindHole = sealed.filter((number) => number > segment);
    for (const other of behindHole) await this.#compareOnce(archive, other);
    const verifiedLsn = await this.#checkTail(archive);
    // Segments take seconds to read when they are encrypted, and the server goes on writing.
    if (triesLeft > 0 && (await findTip(archive))?.lsn !== tip.lsn) return this.check(triesLeft - 1);
    return { tip, sealed: sealed.length, behindHole: behindHole.length, verifiedLsn };
  }

  async #listSealed(archive: Archive): Promise<SegmentNumber[]> {
    const found: SegmentNumber[] = [];
    for await (const { key } of archive.store.list(timelinePrefix(archive.cluster, this.#timeline))) {
      const name = parseWalKey(key, archive.identity.segmentSize);
      if (name?.kind === "segment") found.push(name.segment);
    }
    return found.sort((a, b) => a - b);
  }

  async #compareOnce(archive: Archive, segment: SegmentNumber): Promise<void> {
    if (this.#equal.has(segment)) return;
    const stored = await readSegment(archive, this.#place(archive, segment));
    if (stored === undefined) throw new Error(`segment ${segment} was listed and cannot be read`);
    this.#expectEqual(archive, segment, stored.raw);
    this.#equal.add(segment);
  }

  async #verifyNext(archive: Archive): Promise<void> {
    const next = this.#next;
    if (next === undefined) return;
    const stored = await readSegment(archive, this.#place(archive, next.segment));
    if (stored === undefined) throw new Error(`sealed segment ${next.segment} vanished`);
    this.#expectEqual(archive, next.segment, stored.raw);
    const verifier = await this.#verifier(archive, next.segment, next.carry);
    verifier.push(stored.raw);
    if (stored.verifiedLsn !== verifier.verifiedLsn) {
      const told = `${formatLsn(stored.verifiedLsn)} of ${formatLsn(verifier.verifiedLsn)}`;
      throw new Error(`segment ${next.segment} says it is verified to ${told}`);
    }
    this.#next = { segment: (next.segment + 1) as SegmentNumber, carry: verifier.carry() };
  }

  /** The tail behind the contiguous segments: verified, ends with a record, equals the server's file. */
  async #checkTail(archive: Archive): Promise<Lsn | undefined> {
    const next = this.#next;
    if (next === undefined) return undefined;
    const verifier = await this.#verifier(archive, next.segment, next.carry);
    const tail = await readTail(archive, this.#place(archive, next.segment));
    if (tail === undefined) return verifier.verifiedLsn;
    verifier.push(tail.bytes);
    if (verifier.verifiedLsn !== tail.endLsn || tail.verifiedLsn !== tail.endLsn) {
      throw new Error(`the tail ends at ${formatLsn(tail.endLsn)}, records at ${formatLsn(verifier.verifiedLsn)}`);
    }
    this.#expectEqual(archive, next.segment, tail.bytes);
    return verifier.verifiedLsn;
  }

  async #verifier(archive: Archive, segment: SegmentNumber, carry: RecordCarry | undefined): Promise<WalVerifier> {
    const { systemIdentifier, segmentSize } = archive.identity;
    return new WalVerifier({
      systemIdentifier,
      segmentSize,
      startLsn: segmentStart(segment, segmentSize),
      history: await historyOf(archive, this.#timeline),
      carry,
      onRecord: this.#options.onRecord,
    });
  }

  #expectEqual(archive: Archive, segment: SegmentNumber, ours: Uint8Array): void {
    const name = segmentFileName(this.#timeline, segment, archive.identity.segmentSize);
    const path = join(this.#options.walDir, name);
    if (!existsSync(path)) throw new Error(`the server has no ${name} to compare with`);
    const at = firstDifference(ours, readFileSync(path).subarray(0, ours.byteLength));
    if (at >= 0) throw new Error(`${name} differs from the server's at byte ${at} of ${ours.byteLength}`);
  }

  #place(archive: Archive, segment: SegmentNumber) {
    return { timeline: this.#timeline, segment, segmentSize: archive.identity.segmentSize };
  }
}
