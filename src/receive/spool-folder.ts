/**
 * Finds the folder that a spool works in: that of the cluster's newest generation. The store knows it; while the store does not
 * answer, the spool goes on with the newest generation that it holds itself.
 */
import { readDeclarations } from "../archive/generations.ts";
import { generationFolder, isClusterName, parseGivenName } from "../archive/keys.ts";
import { deadline, joinSignals } from "../signals.ts";
import { waitFor } from "../store/signal.ts";
import type { Store } from "../store/store.ts";
import type { ReceiverOptions } from "./options.ts";
import { delaysUpload } from "./upload-failures.ts";

export interface SpoolFolder {
  readonly folder: string;
  /** The question to the store, while it is not answered; never rejects. */
  readonly asking: Promise<void> | undefined;
}

/** How long the store may take to answer. */
const ANSWER_MS = 5_000;

export async function findSpoolFolder(
  spool: Store,
  { store, cluster: name, stop, kill, log }: Pick<ReceiverOptions, "store" | "cluster" | "stop" | "kill" | "log">,
): Promise<SpoolFolder> {
  const { cluster, generation } = parseGivenName(name);
  if (generation !== undefined) return { folder: generationFolder(cluster, generation), asking: undefined };
  using either = joinSignals(stop, kill);
  const { signal } = either;
  const held = await generationsIn(spool, cluster, signal);
  using limit = deadline(ANSWER_MS, signal);
  const reading = readDeclarations(store, cluster, { signal: limit.signal });
  try {
    const declared = await waitFor(reading, { signals: [limit.signal] });
    const newest = declared.at(-1)?.generation ?? 1;
    const older = held.filter((number) => number < newest).map((number) => generationFolder(cluster, number));
    if (older.length > 0) {
      log.warn("the spool holds folders of generations that have ended: they are left alone", { folders: older });
    }
    return { folder: generationFolder(cluster, newest), asking: undefined };
  } catch (error) {
    if (signal.aborted || !(limit.isOverdue || delaysUpload(error))) throw error;
    const asking = reading.then(
      () => undefined,
      () => undefined,
    );
    return { folder: generationFolder(cluster, held.at(-1) ?? 1), asking };
  }
}

/** The generations of the cluster with a folder in the spool, ascending. */
async function generationsIn(spool: Store, cluster: string, signal: AbortSignal): Promise<number[]> {
  const folders = (await spool.listPrefixes("", { signal })).map((prefix) => prefix.slice(0, -1));
  const numbers = folders.flatMap((folder) => {
    const [name = "", number = "1"] = folder.split("@");
    return isClusterName(name) && name === cluster && generationFolder(cluster, Number(number)) === folder
      ? [Number(number)]
      : [];
  });
  return numbers.sort((a, b) => a - b);
}
