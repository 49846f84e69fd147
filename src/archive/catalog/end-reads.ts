/**
 * Reads where WAL of one listing ends, each end once. The tip and the window that reaches it are the same read, so they agree
 * while WAL goes on arriving.
 */
import type { RequestOptions } from "../../store/store.ts";
import type { Lsn, SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import type { WalListing } from "../wal/inventory.ts";
import type { WalItem } from "../wal/path.ts";
import { endBefore, verifiedEnd } from "../wal/reach.ts";
import type { ListedChunks, ListedTail } from "../wal/tail.ts";
import { itemsAt, type Tip } from "../wal/tip.ts";

export class EndReads {
  readonly #archive: Archive;
  readonly #request: RequestOptions;
  readonly #tails: ReadonlyMap<string, ListedTail>;
  readonly #partials: ReadonlySet<string>;
  readonly #ends = new Map<string, Promise<Lsn>>();

  constructor(archive: Archive, { inventory, tails }: WalListing, request: RequestOptions) {
    this.#archive = archive;
    this.#request = request;
    this.#tails = new Map(tails.map((tail) => [spotKey(tail), tail]));
    this.#partials = new Set(inventory.partials.map(spotKey));
  }

  /** The chunks of the listing. */
  readonly listed: ListedChunks = (at) => this.#tails.get(spotKey(at))?.chunks ?? [];

  /** The end of the last complete record up to and including `last`, as `verifiedEnd` gives it. */
  endOf(last: WalItem, before: WalItem | undefined): Promise<Lsn> {
    const key = [last, ...(before === undefined ? [] : [before])].map(objectKey).join(" ");
    const known = this.#ends.get(key);
    if (known !== undefined) return known;
    const end = verifiedEnd(this.#archive, last, before, { ...this.#request, listed: this.listed });
    this.#ends.set(key, end);
    return end;
  }

  /** The LSN of a tip that was located in the listing. */
  tipLsn(place: Omit<Tip, "lsn">): Promise<Lsn> {
    const { open, before } = itemsAt(place);
    const isListed = this.#tails.has(spotKey(open)) || this.#partials.has(spotKey(open));
    // What is stored there since the listing lies behind every window of it.
    return isListed ? this.endOf(open, before) : endBefore(this.#archive, open, before, this.#request);
  }
}

function spotKey({ timeline, segment }: { readonly timeline: TimelineId; readonly segment: SegmentNumber }): string {
  return `${timeline}/${segment}`;
}

/** A tail and a partial of one segment are read together. */
function objectKey(item: WalItem): string {
  return `${spotKey(item)}/${item.kind === "segment" ? "sealed" : "unsealed"}`;
}
