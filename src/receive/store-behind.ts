/**
 * The store behind a spool: its archive is opened anew for each use, since it may be away for hours. A store without the archive
 * that the spool was uploaded to is a bare mount point or another bucket: WAL that went there would leave the spool.
 */
import { type Archive, openFolderFor } from "../archive/archive.ts";
import type { ClusterIdentity } from "../archive/documents.ts";
import { readIdentity } from "../archive/identity.ts";
import type { Codec } from "../codec/codec.ts";
import { SeawallError } from "../errors.ts";
import { waitFor } from "../store/signal.ts";
import type { Store } from "../store/store.ts";

export interface StoreBehindOptions {
  readonly store: Store;
  /** The folder of the generation. */
  readonly cluster: string;
  readonly codec: Codec;
  /** Remembers in the spool to which store its WAL goes. */
  readonly note: {
    readonly read: () => Promise<string | undefined>;
    readonly write: (store: string) => Promise<void>;
    /** Names the note in a hint: it is to be removed to begin a new archive. */
    readonly name: string;
  };
}

export class StoreBehind {
  readonly #options: StoreBehindOptions;
  /** The store's archive was opened in this run. */
  #isOpened = false;
  /** A call into the store that does not return; undefined once it has. */
  #hanging: Promise<void> | undefined;

  constructor(options: StoreBehindOptions) {
    this.#options = options;
  }

  /**
   * Leaves the store alone until `look` has ended: a call into a directory that hangs holds a thread, and the spool needs
   * threads too.
   */
  leaveAloneUntil(look: Promise<unknown>): void {
    const hanging = look.then(
      () => undefined,
      () => undefined,
    );
    this.#hanging = hanging;
    void hanging.then(() => (this.#hanging = undefined));
  }

  /** Rejects `aborted` when `signal` fires before a call that hangs has ended. */
  async untilAnswered(signal: AbortSignal): Promise<void> {
    if (this.#hanging !== undefined) await waitFor(this.#hanging, { signals: [signal] });
  }

  /** Opens the store's archive, or creates it for a spool that was never uploaded. Throws `store-missing`. */
  async open(identity: ClusterIdentity, signal: AbortSignal): Promise<Archive> {
    await this.untilAnswered(signal);
    const { store, cluster, codec, note } = this.#options;
    const isKnown = this.#isOpened || (await note.read()) !== undefined;
    if (!this.#isOpened && isKnown && (await readIdentity(store, cluster, { signal })) === undefined) {
      const message = `${store.description} has no archive of cluster "${cluster}", although this spool was uploaded to one`;
      throw new SeawallError("store-missing", message, {
        hint: `Mount the store, or correct --store. To begin a new archive, remove ${note.name}.`,
      });
    }
    const archive = await openFolderFor(store, cluster, identity, { codec, signal });
    if (!isKnown) await note.write(store.description);
    this.#isOpened = true;
    return archive;
  }
}
