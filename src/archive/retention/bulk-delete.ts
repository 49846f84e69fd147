/** Deletes many objects: in batches, several at a time, and passes over those that the store refuses to delete. */
import type { ErrorCode } from "../../error-kinds.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import type { RequestOptions, Store } from "../../store/store.ts";
import { mapBounded } from "../bounded.ts";

export interface Refusal {
  readonly key: string;
  readonly error: SeawallError;
}

/** Objects that a store would not delete. */
export interface Refused {
  readonly refused: number;
  /** The first of them. */
  readonly refusals: readonly Refusal[];
}

export interface BulkDeleteOptions extends RequestOptions {
  /** Told of each batch that is gone: how many objects, and their bytes. */
  readonly onDeleted?: ((objects: number, bytes: number) => void) | undefined;
  /** Throw `deletion-refused` at so many refusals before the first deletion; 50 by default. */
  readonly refusalsAtFirstMax?: number | undefined;
}

export interface DoomedObject {
  readonly key: string;
  readonly bytes: number;
}

const BATCH_KEYS = 1_000;
const BATCHES_IN_FLIGHT = 4;
/** Single deletions between two questions. */
const SINGLES = 64;
/** Refusals that are remembered one by one; beyond them only their number counts. */
const REFUSALS_KEPT = 100;
/** When so many are refused before a single one has been deleted, nothing is going to be. */
const REFUSALS_AT_FIRST_MAX = 50;
/** Codes for an object that the store keeps: Object Lock, a legal hold, an immutable file. */
const REFUSED: readonly ErrorCode[] = ["store-denied", "store-unsupported"];

/** Whether a store said that it will not delete, as opposed to that it cannot now. */
export function isRefusal(error: unknown): error is SeawallError {
  return hasCode(error, ...REFUSED);
}

/** Makes one error of all refusals of a command; undefined without one. The first refusal is its cause and names the right. */
export function refusedDeletion({ refused, refusals }: Refused): SeawallError | undefined {
  const [first] = refusals;
  if (first === undefined) return undefined;
  const objects = refused === 1 ? `to delete ${first.key}` : `to delete ${refused} objects, among them ${first.key}`;
  return new SeawallError("deletion-refused", `the store refused ${objects}`, {
    cause: first.error,
    hint: `${first.error.hint} The next expiry then removes what is left.`,
    details: { objects: refused },
  });
}

export class BulkDelete {
  readonly #store: Store;
  readonly #options: BulkDeleteOptions;
  readonly #refusals: Refusal[] = [];
  objects = 0;
  bytes = 0;
  refused = 0;
  /** How many of the deleted objects the store keeps as old versions. */
  hidden = 0;

  constructor(store: Store, options: BulkDeleteOptions = {}) {
    this.#store = store;
    this.#options = options;
  }

  /** The first of them. */
  get refusals(): readonly Refusal[] {
    return this.#refusals;
  }

  /** One object; false when the store refuses. */
  async one(object: DoomedObject): Promise<boolean> {
    const before = this.refused;
    await this.#batch([object]);
    return this.refused === before;
  }

  /** Deletes what the command itself has stored on its way. It counts only where the store refuses. */
  async own(keys: readonly string[]): Promise<void> {
    const { objects, bytes, hidden } = this;
    for (let at = 0; at < keys.length; at += BATCH_KEYS) {
      await this.#batch(keys.slice(at, at + BATCH_KEYS).map((key) => ({ key, bytes: 0 })));
    }
    [this.objects, this.bytes, this.hidden] = [objects, bytes, hidden];
  }

  /**
   * Deletes all keys in the order in which they come, several batches at the same time. `before` is asked before each few
   * batches; false stops the deletion. Returns whether everything was deleted or refused. An abort, or an error of the store other than a
   * refusal, leaves the rest where it is.
   */
  async all(
    objects: AsyncIterable<DoomedObject>,
    before: () => Promise<boolean> = () => Promise.resolve(true),
  ): Promise<boolean> {
    let batches: DoomedObject[][] = [];
    const flush = async (): Promise<boolean> => {
      if (batches.length === 0) return true;
      if (!(await before())) return false;
      await mapBounded(batches, BATCHES_IN_FLIGHT, (batch) => this.#batch(batch));
      batches = [];
      return true;
    };
    for await (const object of objects) {
      let last = batches.at(-1);
      if (last === undefined || last.length === BATCH_KEYS) {
        if (batches.length === BATCHES_IN_FLIGHT && !(await flush())) return false;
        batches.push((last = []));
      }
      last.push(object);
    }
    return flush();
  }

  /**
   * Deletes objects in their order, so that a refusal or an interruption leaves what comes behind. A batch is one request, whose
   * keys go in no order: only objects for which `mayBatch` holds share one. `before` is asked before each batch, and before
   * each few single objects.
   */
  async inOrder(
    objects: AsyncIterable<DoomedObject>,
    { mayBatch, before }: { readonly mayBatch: (key: string) => boolean; readonly before: () => Promise<boolean> },
  ): Promise<"done" | "ended" | "refused"> {
    let group: DoomedObject[] = [];
    let isBatch = true;
    const flush = async (): Promise<"done" | "ended" | "refused"> => {
      if (group.length === 0) return "done";
      if (!(await before())) return "ended";
      const refused = this.refused;
      const requests = isBatch ? [group] : group.map((object) => [object]);
      group = [];
      for (const request of requests) {
        await this.#batch(request);
        if (this.refused > refused) return "refused";
      }
      return "done";
    };
    for await (const object of objects) {
      const joins = mayBatch(object.key);
      if (joins !== isBatch || group.length === (isBatch ? BATCH_KEYS : SINGLES)) {
        const end = await flush();
        if (end !== "done") return end;
        isBatch = joins;
      }
      group.push(object);
    }
    return flush();
  }

  /** A store refuses a batch as a whole, having deleted what it could: halves find out which it was about. */
  async #batch(objects: readonly DoomedObject[]): Promise<void> {
    try {
      await this.#store.delete(
        objects.map(({ key }) => key),
        { signal: this.#options.signal, onHidden: (objects) => (this.hidden += objects) },
      );
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const [only] = objects;
      if (objects.length === 1 && only !== undefined) return this.#refuse(only.key, error);
      const middle = objects.length >> 1;
      await this.#batch(objects.slice(0, middle));
      return this.#batch(objects.slice(middle));
    }
    const bytes = objects.reduce((sum, object) => sum + object.bytes, 0);
    this.objects += objects.length;
    this.bytes += bytes;
    this.#options.onDeleted?.(objects.length, bytes);
  }

  #refuse(key: string, error: SeawallError): void {
    this.refused++;
    if (this.#refusals.length < REFUSALS_KEPT) this.#refusals.push({ key, error });
    const { refusalsAtFirstMax = REFUSALS_AT_FIRST_MAX } = this.#options;
    if (this.objects > 0 || this.refused < refusalsAtFirstMax) return;
    throw refusedDeletion(this) ?? error;
  }
}
