/**
 * The files of a journal: which segments and spare files there are, under which names. Names change one change after another. After a
 * change that failed, the disk says which names there are: on a network file system it may have happened all the same.
 */
import { hasCode, SeawallError } from "../../errors.ts";
import { Turns } from "../../turns.ts";
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import type { JournalDisk, JournalFile } from "./disk.ts";
import { JOURNAL_DOCUMENT } from "./document.ts";
import { fileNameOf, halfMade, type Layout, readLayout, type SegmentFile, spareName } from "./layout.ts";

/**
 * Files kept to be used again: the next segment's, and one that was just pruned. Each holds zeros or WAL of a lower segment, which
 * never verifies where the file is used.
 */
const SPARES_MAX = 2;

type Listing = Awaited<ReturnType<JournalDisk["list"]>>;

export class JournalFiles {
  readonly disk: JournalDisk;
  readonly #onChange: () => void;
  /** Undefined before the journal has a document. */
  #segmentSize: number | undefined;
  #segments: SegmentFile[] = [];
  #spares: string[] = [];
  /** Names of spare files that are being made. */
  readonly #sparesToBe = new Set<string>();
  /** Counts the beginnings and ends of the making of spares, which takes no turn. */
  #spareMoves = 0;
  #preparing: Promise<void> | undefined;
  /** Changes of names and of the document, one after another. */
  readonly #turns = new Turns(1);
  /** A change of names has failed. */
  #areNamesUnsure = false;

  constructor(disk: JournalDisk, onChange: () => void) {
    this.disk = disk;
    this.#onChange = onChange;
  }

  /** By timeline, then segment. */
  get segments(): readonly SegmentFile[] {
    return this.#segments;
  }

  /** Size of all files, open and spare ones as a whole. */
  get bytes(): number {
    return (this.#segments.length + this.#spares.length) * (this.#segmentSize ?? 0);
  }

  /** Size of the files that hold WAL. */
  get walBytes(): number {
    return this.#segments.length * (this.#segmentSize ?? 0);
  }

  get hasSpare(): boolean {
    return this.#spares.length > 0;
  }

  find(timeline: TimelineId, segment: SegmentNumber): SegmentFile | undefined {
    return this.#segments.find((file) => isSame(file, { timeline, segment }));
  }

  lastOf(timeline: TimelineId): SegmentFile | undefined {
    return this.#segments.findLast((file) => file.timeline === timeline);
  }

  /** The journal has a document now. */
  begin(segmentSize: number): void {
    this.#segmentSize = segmentSize;
  }

  /** Takes over what an earlier process left, and removes what it left half made. */
  async recover(files: Listing, segmentSize: number): Promise<Layout> {
    this.begin(segmentSize);
    const layout = this.#take(files);
    for (const name of halfMade(files, segmentSize)) await this.disk.remove(name);
    return layout;
  }

  /** The file of a segment, which is made if it is absent, and named durably. The caller has made sure that there is room. */
  async openToWrite(place: SegmentFile): Promise<JournalFile> {
    const { timeline, segment } = place;
    await this.settle();
    while (this.find(timeline, segment) === undefined) {
      await this.#preparing;
      if (!this.hasSpare) await this.#allocateSpare();
      await this.inTurn(async () => {
        const spare = this.#spares.at(-1);
        // A document took its room meanwhile.
        if (spare === undefined) return;
        await this.disk.rename(spare, this.#nameOf(place));
        this.#spares = this.#spares.filter((one) => one !== spare);
        await this.disk.syncNames();
        this.#segments = [...this.#segments, place].sort((a, b) => a.timeline - b.timeline || a.segment - b.segment);
      });
    }
    // It has its final name already when that could not be made durable.
    const name = this.#nameOf(this.find(timeline, segment) ?? place);
    const file = await this.disk.open(name);
    if (file === undefined) throw new SeawallError("store-missing", `${name} vanished from ${this.disk.where}`);
    return file;
  }

  /** The file that holds a segment; undefined when there is none. */
  async openToRead(timeline: TimelineId, segment: SegmentNumber): Promise<JournalFile | undefined> {
    const place = this.find(timeline, segment);
    if (place === undefined) return undefined;
    const file = await this.disk.open(this.#nameOf(place));
    // It may have got its final name meanwhile.
    return file ?? this.disk.open(this.#nameOf({ timeline, segment, isComplete: true }));
  }

  /** Gives a segment's file its final name, durably. */
  async complete(timeline: TimelineId, segment: SegmentNumber): Promise<void> {
    const done = { timeline, segment, isComplete: true };
    await this.inTurn(async () => {
      const place = this.find(timeline, segment);
      if (place?.isComplete === false) {
        await this.disk.rename(this.#nameOf(place), this.#nameOf(done));
        this.#segments = this.#segments.map((one) => (one === place ? done : one));
      }
      await this.disk.syncNames();
    });
  }

  async remove(file: SegmentFile): Promise<void> {
    await this.inTurn(async () => {
      await this.disk.remove(this.#nameOf(file));
      this.#forget(file);
      await this.disk.syncNames();
    });
  }

  /** Lets go of files: removes them, or keeps some of those that may be used again. */
  async letGo(files: readonly SegmentFile[], isReusable: (file: SegmentFile) => boolean): Promise<void> {
    await this.inTurn(async () => {
      for (const file of files) {
        const name = this.#nameOf(file);
        if (this.#spares.length < SPARES_MAX && isReusable(file)) {
          await this.#addSpare(async (spare) => this.disk.rename(name, spare));
        } else await this.disk.remove(name);
        this.#forget(file);
      }
      await this.disk.syncNames();
    });
  }

  /** Removes all files of WAL, and these. */
  async clear(others: readonly string[]): Promise<void> {
    await this.inTurn(async () => {
      for (const file of this.#segments) await this.disk.remove(this.#nameOf(file));
      for (const name of others) await this.disk.remove(name);
      await this.#removeSpares();
    });
    this.#segments = [];
  }

  /** Makes the next segment's file ready beside the stream. A failure is left to the segment that needs it. */
  prepareSpare(): void {
    if (this.hasSpare || this.#preparing !== undefined) return;
    this.#preparing = this.#allocateSpare()
      .catch(() => undefined)
      .finally(() => (this.#preparing = undefined));
  }

  /**
   * A spare may hold an older timeline's WAL of a segment that the new one writes again. Up to the switch point, and in the rest of
   * its page, that WAL would be taken for the new timeline's after a crash.
   */
  async removeSpares(): Promise<void> {
    await this.inTurn(async () => this.#removeSpares());
  }

  /** Writes a small file, within a turn. On a full disk a spare file makes room: it holds no WAL. */
  async replace(name: string, content: Uint8Array): Promise<void> {
    while (!(await fits(async () => this.disk.replace(name, content)))) {
      const spare = this.#spares.at(-1);
      if (spare === undefined) return this.disk.replace(name, content);
      await this.#removeSpare(spare);
      await this.disk.syncNames();
    }
  }

  async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const giveBack = await this.#turns.take();
    try {
      if (this.#areNamesUnsure) await this.#readNames();
      return await work();
    } catch (error) {
      this.#areNamesUnsure = true;
      throw error;
    } finally {
      giveBack();
    }
  }

  /** After this the files that are known are those of the disk. */
  async settle(): Promise<void> {
    if (this.#areNamesUnsure) await this.inTurn(async () => Promise.resolve());
  }

  async close(): Promise<void> {
    await this.#preparing;
    await this.disk.close();
  }

  /** Within a turn. Names that a failed change has left may not be durable: they are flushed before they count. */
  async #readNames(): Promise<void> {
    if (this.#segmentSize === undefined) return;
    await this.disk.syncNames();
    let files: Listing;
    let seen: number;
    do {
      seen = this.#spareMoves;
      files = await this.disk.list();
    } while (seen !== this.#spareMoves);
    if (!files.some(({ name }) => name === JOURNAL_DOCUMENT))
      throw new SeawallError("store-missing", `${JOURNAL_DOCUMENT} vanished from ${this.disk.where}`);
    this.#take(files);
    this.#areNamesUnsure = false;
    this.#onChange();
  }

  #take(files: Listing): Layout {
    const layout = readLayout(files, this.#segmentSize ?? 0);
    this.#segments = [...layout.segments];
    this.#spares = layout.spares.filter((name) => !this.#sparesToBe.has(name));
    return layout;
  }

  async #allocateSpare(): Promise<void> {
    await this.#addSpare(async (name) => this.disk.allocate(name, this.#segmentSize ?? 0));
    this.#onChange();
  }

  /** Makes a spare file under a name that is taken from the first moment on: two are made at a time. */
  async #addSpare(make: (name: string) => Promise<void>): Promise<void> {
    const isTaken = (name: string): boolean => this.#spares.includes(name) || this.#sparesToBe.has(name);
    let number = 0;
    while (isTaken(spareName(number))) number++;
    const name = spareName(number);
    this.#sparesToBe.add(name);
    this.#spareMoves += 1;
    try {
      await make(name);
      this.#spares.push(name);
    } catch (error) {
      this.#areNamesUnsure = true;
      throw error;
    } finally {
      this.#sparesToBe.delete(name);
      this.#spareMoves += 1;
    }
  }

  async #removeSpares(): Promise<void> {
    for (const spare of [...this.#spares]) await this.#removeSpare(spare);
    await this.disk.syncNames();
  }

  async #removeSpare(spare: string): Promise<void> {
    await this.disk.remove(spare);
    this.#spares = this.#spares.filter((one) => one !== spare);
  }

  #forget(file: SegmentFile): void {
    this.#segments = this.#segments.filter((one) => !isSame(one, file));
  }

  #nameOf(file: SegmentFile): string {
    return fileNameOf(file, this.#segmentSize ?? 0);
  }
}

/** False when the disk is full. */
export async function fits(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasCode(error, "store-full")) return false;
    throw error;
  }
}

type Place = Pick<SegmentFile, "timeline" | "segment">;

const isSame = (a: Place, b: Place): boolean => a.timeline === b.timeline && a.segment === b.segment;
