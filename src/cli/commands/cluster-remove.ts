/** `seawall cluster remove`: shows what a store holds of a cluster. With the name typed once more it removes everything shown. */
import { type Archive, openFolder } from "../../archive/archive.ts";
import type { ClusterIdentity } from "../../archive/documents.ts";
import { readDeclarations } from "../../archive/generations.ts";
import { generationFolder, generationKey, generationName, parseGivenName } from "../../archive/keys.ts";
import { storeClock } from "../../archive/store-clock.ts";
import { REMOVAL_STEPS } from "../../archive/retention/belongings.ts";
import { type BulkDelete, refusedDeletion } from "../../archive/retention/bulk-delete.ts";
import { type Belongings, obstaclesOf, removeArchive, surveyArchive } from "../../archive/retention/removal.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { readSlotStatus } from "../../daemon/status/slot-monitor.ts";
import { deadline } from "../../signals.ts";
import type { RequestOptions, Store } from "../../store/store.ts";
import {
  type CommandContext,
  connectionSettings,
  openPatientStore,
  printResult,
  requiredStore,
  refuseOtherName,
} from "../context.ts";
import { Progress } from "../views/progress.ts";
import { counted } from "../../plural.ts";
import { columns } from "../views/layout.ts";

/** The server is asked about the slot for so long: it may be gone for good. */
const SERVER_MS = 10_000;
/** Errors of a server that does not exist any more. */
const GONE: readonly string[] = ["server-unreachable", "server-silent"];

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, io } = context;
  const { cluster, confirm, force } = settings;
  refuseOtherName(settings);
  const store = await openPatientStore(context, requiredStore(context), { interactive: true });
  const progress = new Progress({ io, json: settings.json, verb: "removing", nowMs: () => Date.now() });
  try {
    const request = { signal: signals.stop };
    const { archive, declaration } = await removable(store, cluster, request);
    const slot = await slotInUse(context, archive.identity);
    const isDry = settings.dryRun || confirm === undefined;
    // A dry run writes nothing, so it has this machine's clock alone.
    const now = isDry ? () => new Date() : await storeClock(store, archive.cluster, request);
    const found = await surveyArchive(archive, now(), request);
    const obstacles = [...obstaclesOf(found, { now: now(), force }), ...slot];
    if (isDry) {
      await printResult(
        context,
        { dryRun: true, ...surveyJson(context, found, obstacles) },
        surveyText(context, found, obstacles),
      );
      return EXIT.done;
    }
    if (obstacles.length > 0) {
      throw new SeawallError("cluster-protected", `cluster "${cluster}" must stay: ${obstacles.join("; ")}`);
    }
    progress.begin(bytesOf(found));
    const onDeleted = (_: number, bytes: number): void => progress.advance(bytes);
    const removing = removeArchive(archive, { ...request, now, force, declaration, onDeleted });
    const removed = await removing.finally(() => progress.end());
    await printResult(
      context,
      { dryRun: false, ...surveyJson(context, found, []), ...removedJson(removed) },
      removedText(context, removed, found),
    );
    const failure = refusedDeletion(removed);
    if (failure !== undefined) throw failure;
    return EXIT.done;
  } finally {
    await store.close();
  }
}

/**
 * The archive that goes: of a cluster that was upgraded, the newest generation alone. The older ones are found from the first
 * one's folder, and expiry empties them.
 */
async function removable(
  store: Store,
  name: string,
  options: RequestOptions,
): Promise<{ readonly archive: Archive; readonly declaration: string | undefined }> {
  const { cluster, generation } = parseGivenName(name);
  const number = (await readDeclarations(store, cluster, options)).at(-1)?.generation ?? 1;
  const newest = generationName(cluster, number);
  if (generation === undefined && number > 1) {
    throw new SeawallError("cluster-protected", `cluster "${cluster}" has ${number} generations`, {
      hint: `Expiry removes what is old. To remove the newest one: --cluster ${newest} --confirm ${newest}; then the one before it.`,
    });
  }
  if (generation !== undefined && generation < number) {
    throw new SeawallError(
      "cluster-protected",
      `${name} must stay: ${generationName(cluster, generation + 1)} follows it`,
      {
        hint: "seawall expire removes its backups and WAL when the policy no longer keeps them.",
      },
    );
  }
  // One beyond the newest was never declared, or its removal was interrupted.
  const archive = await openFolder(store, generationFolder(cluster, generation ?? 1), options);
  return { archive, declaration: number > 1 && generation === number ? generationKey(cluster, number) : undefined };
}

/**
 * Why the server of --dsn speaks against it. The slot of another server says nothing about this archive: after an upgrade each
 * generation has a server of its own. A server that cannot be reached says nothing either: it may be gone for good. Throws for a wrong
 * --dsn and for a server that is there and refuses the question: a check that was asked for must not be left out.
 */
async function slotInUse(context: CommandContext, { systemIdentifier }: ClusterIdentity): Promise<string[]> {
  const { settings, signals, log } = context;
  if (settings.dsn === undefined || settings.noSlot) return [];
  const connection = await connectionSettings(context);
  using limit = deadline(SERVER_MS, signals.stop);
  try {
    const status = await readSlotStatus(connection, settings.slot, limit.signal);
    if (status.active !== true) return [];
    await using walsender = await ReplicationConnection.connect(connection, { signal: limit.signal });
    const asked = await walsender.identifySystem();
    if (asked.systemIdentifier === systemIdentifier)
      return [`a receiver uses the slot "${settings.slot}" of its server`];
    log.info("the server of --dsn is another one than this archive's, so its slot is left out of account", {
      archive: systemIdentifier.toString(),
      server: asked.systemIdentifier.toString(),
    });
    return [];
  } catch (error) {
    const isGone = limit.isOverdue || (error instanceof SeawallError && GONE.includes(error.code));
    if (signals.stop.aborted || !isGone) throw error;
    log.warn("cannot ask the server whether the slot is in use", { slot: settings.slot, error });
    return [];
  }
}

function bytesOf({ steps }: Belongings): number {
  return REMOVAL_STEPS.reduce((sum, step) => sum + steps[step].bytes, 0);
}

function objectsOf({ steps }: Belongings): number {
  return REMOVAL_STEPS.reduce((sum, step) => sum + steps[step].objects, 0);
}

function surveyJson({ settings }: CommandContext, found: Belongings, obstacles: readonly string[]): object {
  const { backups, pinned, running, steps, foreign, newestWalMs } = found;
  return {
    cluster: settings.cluster,
    objects: objectsOf(found),
    bytes: bytesOf(found),
    steps,
    backups,
    pinned,
    running,
    newestWalAt: newestWalMs === undefined ? null : new Date(newestWalMs).toISOString(),
    foreignObjects: foreign.objects,
    obstacles,
  };
}

function removedJson({ objects, bytes, hidden, refused, refusals }: BulkDelete): object {
  return { removed: { objects, bytes, hidden, refused, refusals: refusals.map(({ key }) => key) } };
}

function surveyText({ settings, io }: CommandContext, found: Belongings, obstacles: readonly string[]): string {
  const { cluster } = settings;
  const rows = REMOVAL_STEPS.map((step) => [
    `  ${step}`,
    counted(found.steps[step].objects, "object"),
    humanBytes(found.steps[step].bytes),
  ]);
  const removal = `To remove all of it: add --confirm ${cluster}`;
  return [
    `The store has ${counted(objectsOf(found), "object")} of cluster ${cluster}, ${humanBytes(bytesOf(found))}, ${counted(found.backups.length, "backup")}:`,
    ...columns(rows, io.width),
    ...foreignLines(found),
    "",
    ...(obstacles.length === 0 ? [removal] : ["It must stay:", ...obstacles.map((obstacle) => `  ${obstacle}`)]),
  ].join("\n");
}

function removedText({ settings }: CommandContext, removed: BulkDelete, found: Belongings): string {
  const { objects, bytes, hidden, refused } = removed;
  const whole = refused === 0 ? `Cluster ${settings.cluster} is gone: ` : "";
  return [
    `${whole}${counted(objects, "object")} removed, ${humanBytes(bytes)} freed.`,
    ...(hidden === 0 ? [] : [`The store keeps ${hidden} of them as old versions: their space is not free yet.`]),
    ...foreignLines(found),
    ...(refused === 0 ? ["Its slot on the server, if it has one, is not touched: seawall slot drop."] : []),
  ].join("\n");
}

function foreignLines({ foreign: { objects, first } }: Belongings): string[] {
  return objects === 0
    ? []
    : [`Not Seawall's, and left alone: ${counted(objects, "object")}, among them ${first ?? ""}`];
}
