/**
 * Removes everything of one cluster from a store. Marks and documents come first, WAL last, the identity at the very end: a
 * removal may be interrupted anywhere, and the next one goes on. Objects that are not the archive's stay.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { isInForce, listPins } from "../backups/pins.ts";
import { mapBounded } from "../bounded.ts";
import { aliveObstacles } from "../wal/stored-at.ts";
import { backupsPrefix, expiringKey, identityKey, isBackupId, tailsPrefix, walPrefix } from "../keys.ts";
import { REMOVAL_STEPS, type RemovalStep, removalStepOf } from "./belongings.ts";
import { BulkDelete, type DoomedObject } from "./bulk-delete.ts";
import { lookAtUnfinished } from "./expiry-plan.ts";
import { putMark, removeMark } from "./marks.ts";
import { LEFTOVER_AFTER_MS } from "./plan.ts";

export interface Belongings {
  readonly steps: Readonly<Record<RemovalStep, { readonly objects: number; readonly bytes: number }>>;
  /** Ids of finished and unfinished backups. */
  readonly backups: readonly string[];
  /** When the newest WAL was stored, by the store's clock. */
  readonly newestWalMs: number | undefined;
  /** Objects below the cluster's prefix that are not the archive's. */
  readonly foreign: { readonly objects: number; readonly first: string | undefined };
  readonly pinned: readonly string[];
  /** Backups that are being taken, as far as the store tells. */
  readonly running: readonly string[];
}

/** Lists the whole archive once. Throws what the store throws. */
export async function surveyArchive(archive: Archive, now: Date, options: RequestOptions = {}): Promise<Belongings> {
  const { cluster, identity, store } = archive;
  const steps = Object.fromEntries(REMOVAL_STEPS.map((step) => [step, { objects: 0, bytes: 0 }]));
  const backups = new Set<string>();
  const finished = new Set<string>();
  let newestWalMs: number | undefined;
  let objects = 0;
  let first: string | undefined;
  for await (const { key, bytes, modifiedAt } of store.list(`${cluster}/`, options)) {
    const step = removalStepOf(cluster, key, identity.segmentSize);
    const count = step === undefined ? undefined : steps[step];
    if (step === undefined || count === undefined) {
      objects++;
      first ??= key;
      continue;
    }
    count.objects++;
    count.bytes += bytes;
    if (step === "WAL") newestWalMs = Math.max(newestWalMs ?? 0, modifiedAt.getTime());
    const id = key.slice(backupsPrefix(cluster).length).split("/", 1)[0] ?? "";
    if (key.startsWith(backupsPrefix(cluster)) && isBackupId(id)) backups.add(id);
    if (step === "backup documents") finished.add(id);
  }
  const pins = await listPins(archive, options);
  const unfinished = [...backups].filter((id) => !finished.has(id));
  const running = await mapBounded(unfinished, REQUESTS_IN_FLIGHT, async (id) => {
    const known = { id, startedAtMs: 0, isMarked: false };
    const { newestObjectMs = 0 } = await lookAtUnfinished(archive, known, options);
    return now.getTime() - newestObjectMs < LEFTOVER_AFTER_MS ? [id] : [];
  });
  return {
    // A cast: the steps are exactly these.
    steps: steps as Belongings["steps"],
    backups: [...backups].sort(),
    newestWalMs,
    foreign: { objects, first },
    pinned: pins.filter((pin) => isInForce(pin, now)).map(({ backup }) => backup),
    running: running.flat(),
  };
}

const REQUESTS_IN_FLIGHT = 8;

export interface RemovalOptions extends RequestOptions {
  /** The store's clock: dates of stored objects are compared with it. */
  readonly now: () => Date;
  /** Remove pinned and running backups too. */
  readonly force: boolean;
  /** The key that declares the archive as a generation of its cluster: goes just before the identity. */
  readonly declaration?: string | undefined;
  readonly onDeleted?: ((objects: number, bytes: number) => void) | undefined;
}

/** Reasons against a removal, for people; empty when there is none. Pure. */
export function obstaclesOf(
  { pinned, running, newestWalMs }: Belongings,
  { now, force }: { readonly now: Date; readonly force: boolean },
): string[] {
  return [
    ...aliveObstacles(newestWalMs, now),
    ...(force ? [] : pinned.map((id) => `backup ${id} is pinned`)),
    ...(force ? [] : running.map((id) => `backup ${id} is being taken`)),
  ];
}

/**
 * Throws `cluster-protected` before anything is deleted when something speaks against it, and at the end when objects came
 * meanwhile; and what the store throws. After that, as after an abort, run it again.
 */
export async function removeArchive(archive: Archive, options: RemovalOptions): Promise<BulkDelete> {
  const { store, cluster } = archive;
  const { signal, now, force } = options;
  const request = { signal };
  const bulk = new BulkDelete(store, { signal, onDeleted: options.onDeleted });
  const first = await surveyArchive(archive, now(), request);
  // A pin that is made from now on sees the mark; one that was made before is seen by the second look.
  const marked = await mapBounded(first.backups, REQUESTS_IN_FLIGHT, async (id) => {
    return (await putMark(archive, id, now(), request)) === "created" ? [expiringKey(cluster, id)] : [];
  });
  const ownMarks = new Set(marked.flat());
  const found = await surveyArchive(archive, now(), request);
  const obstacles = obstaclesOf(found, { now: now(), force });
  if (obstacles.length > 0) {
    const marks = new BulkDelete(store, { signal, refusalsAtFirstMax: Infinity });
    for (const id of first.backups) await removeMark(archive, id, marks);
    throw protectedCluster(archive, obstacles);
  }
  for (const step of REMOVAL_STEPS) {
    if (step !== "identity") await bulk.all(without(ownMarks, objectsOf(archive, step, request)));
    if (step === "records") await bulk.own([...ownMarks]);
    // A backup whose document the store keeps is a backup: nothing of it may go.
    if (step === "backup documents" && bulk.refused > 0) return bulk;
  }
  if (bulk.refused > 0) return bulk;
  const left = await surveyArchive(archive, now(), request);
  const rest = REMOVAL_STEPS.filter((step) => step !== "identity" && left.steps[step].objects > 0);
  if (rest.length > 0) {
    throw protectedCluster(archive, [`objects were stored while it was removed (${rest.join(", ")})`]);
  }
  // Without its declaration the archive is no generation any more, and its removal can go on.
  const { declaration } = options;
  if (declaration !== undefined && !(await bulk.one({ key: declaration, bytes: 0 }))) return bulk;
  await bulk.one({ key: identityKey(cluster), bytes: 0 });
  return bulk;
}

function protectedCluster({ cluster }: Archive, reasons: readonly string[]): SeawallError {
  return new SeawallError("cluster-protected", `cluster "${cluster}" must stay: ${reasons.join("; ")}`);
}

async function* without(keys: ReadonlySet<string>, objects: AsyncIterable<DoomedObject>): AsyncGenerator<DoomedObject> {
  for await (const object of objects) if (!keys.has(object.key)) yield object;
}

/** The objects of one step, in the order of their keys. */
async function* objectsOf(archive: Archive, step: RemovalStep, options: RequestOptions): AsyncGenerator<DoomedObject> {
  const { store, cluster, identity } = archive;
  for (const prefix of prefixesOf(cluster, step)) {
    for await (const { key, bytes } of store.list(prefix, options)) {
      if (removalStepOf(cluster, key, identity.segmentSize) === step) yield { key, bytes };
    }
  }
}

function prefixesOf(cluster: string, step: RemovalStep): readonly string[] {
  const backups = backupsPrefix(cluster);
  const wal = [walPrefix(cluster), tailsPrefix(cluster)];
  const rooms = (...names: readonly string[]): string[] => names.map((name) => `${cluster}/${name}/`);
  switch (step) {
    case "backup documents":
    case "backups":
      return [backups];
    case "records":
      return rooms("pins", "expiring", "drills", "runs", "notices", "verify", "evidence", "probe");
    case "WAL":
      return wal;
    case "history":
      return [walPrefix(cluster), ...rooms("gaps", "breaks", "line", "encryption")];
    case "identity":
      return [identityKey(cluster)];
  }
}
