/** An expiry of a million segments holds a few batches of names at a time, and needs a request a thousand of them, but for the newest. */
import { expect, test } from "vitest";
import { expire } from "../../src/archive/retention/expire.ts";
import { type Decide, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { parseWalKey, timelinePrefix } from "../../src/archive/keys.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { ObjectInfo, RequestOptions } from "../../src/store/store.ts";
import { formatLsn, type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import { FULL } from "../campaigns/campaign.ts";
import { emptyArchive, keyOfSegment, MIB, putSegments, putWholeBackup } from "./retained.ts";

/** The full number with the full campaigns. */
const SEGMENTS = FULL ? 1_000_000 : 200_000;
const CUT = SEGMENTS - 1_000;
const FOLDER = 2 ** 32 / MIB;
const PAGE = 1000;
const prefix = timelinePrefix("main", timelineOf(1));
const modifiedAt = new Date("2026-01-01T00:00:00.000Z");

/** Keys of segments are made as they are listed; only what was put is really there. */
class MillionStore extends MemoryStore {
  readonly #gone = new Uint8Array(SEGMENTS + 1);
  left = SEGMENTS;
  /** Keys listed and not deleted yet, at most. */
  aheadMax = 0;
  #ahead = 0;
  deletes = 0;
  batchMax = 0;

  begin(): void {
    [this.#ahead, this.aheadMax, this.deletes, this.batchMax] = [0, 0, 0, 0];
  }

  override async listPrefixes(folder: string, options?: RequestOptions): Promise<string[]> {
    if (folder !== prefix) return super.listPrefixes(folder, options);
    const folders = Array.from({ length: Math.floor(SEGMENTS / FOLDER) + 1 }, (_, i) => keyOfSegment(i * FOLDER));
    return folders.map((name) => name.slice(0, name.lastIndexOf("/") + 1));
  }

  override async *listPages(
    wanted: string,
    options: RequestOptions & { readonly startAfter?: string } = {},
  ): AsyncGenerator<readonly ObjectInfo[]> {
    if (!wanted.startsWith(prefix)) {
      yield* super.listPages(wanted, options);
      return;
    }
    let page: ObjectInfo[] = [];
    const after = options.startAfter ?? wanted;
    // The folder that the listing begins in is good enough to begin with.
    const folder = /\/([0-9A-F]{8})\//.exec(after.slice(prefix.length - 1))?.[1] ?? "0";
    for (let segment = Math.max(1, Number.parseInt(folder, 16) * FOLDER); segment <= SEGMENTS; segment++) {
      if (this.#gone[segment] === 1) continue;
      const key = keyOfSegment(segment);
      if (key <= after || !key.startsWith(wanted)) continue;
      this.aheadMax = Math.max(this.aheadMax, ++this.#ahead);
      page.push({ key, bytes: 1000, modifiedAt });
      if (page.length < PAGE) continue;
      yield page;
      page = [];
    }
    yield page;
  }

  override async delete(keys: readonly string[], options?: RequestOptions): Promise<void> {
    const found = keys.map((key) => (key.startsWith(prefix) ? parseWalKey(key, MIB) : undefined));
    for (const segment of found) {
      if (segment?.kind !== "segment" || this.#gone[segment.segment] === 1) continue;
      this.#gone[segment.segment] = 1;
      this.left--;
      this.#ahead--;
    }
    if (found.some((segment) => segment !== undefined)) {
      this.deletes++;
      this.batchMax = Math.max(this.batchMax, keys.length);
    }
    return super.delete(keys, options);
  }
}

test(`${SEGMENTS} segments`, async () => {
  const store = new MillionStore();
  const archive = await emptyArchive(store);
  // Where the WAL ends is read, so that must be real.
  await putSegments(archive, 1, SEGMENTS, SEGMENTS);
  const at = (segment: number) => {
    const start = BigInt(segment * MIB + 40) as Lsn;
    return { startLsn: formatLsn(start), stopLsn: formatLsn((start + 100n) as Lsn) };
  };
  await putWholeBackup(archive, { id: "20260201T000000Z-00000001", ...at(10) });
  await putWholeBackup(archive, { id: "20260202T000000Z-00000002", ...at(CUT) });
  const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, new Date());
  const planned = await planExpiry(archive, decide);
  expect(planned.wal).toEqual({ segments: CUT - 1, storedBytes: (CUT - 1) * 1000 });
  store.begin();
  const result = await expire(archive, planned, { now: () => new Date(), decide, withWal: true });
  expect(result.bytes).toBe((CUT - 1) * 1000 + 400);
  expect(store.left).toBe(SEGMENTS - CUT + 1);
  expect(store.aheadMax).toBeLessThanOrEqual(5_000 + PAGE);
  // Segments of the newest two folders go one by one.
  const singles = CUT - (Math.floor(SEGMENTS / FOLDER) - 1) * FOLDER;
  expect([store.deletes, store.batchMax]).toEqual([Math.ceil((CUT - 1 - singles) / 1000) + singles, 1000]);
}, 60_000);
