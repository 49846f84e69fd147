/** `seawall rekey`: shows what is encrypted to others than the new recipients. With the cluster's name it gives these objects new headers. */
import { backupNamed } from "../../archive/backups/named.ts";
import { isSame, mustEncrypt, readEncryption } from "../../archive/encryption.ts";
import { type Kept, type Rekeyed, rekeyArchive } from "../../archive/rekey.ts";
import { Codec } from "../../codec/codec.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { counted } from "../../plural.ts";
import { type CommandContext, printResult, refuseOtherName } from "../context.ts";
import { recipientsOf } from "../keys.ts";
import { findGenerationOf, withGenerations } from "../with-archive.ts";

/** Objects under work at once: each waits for the store most of its time. */
const JOBS = 4;
/** So many objects are named. */
const NAMED_MAX = 5;

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals } = context;
  const { cluster, confirm } = settings;
  refuseOtherName(settings);
  const isDry = settings.dryRun || confirm === undefined;
  const recipients = await recipientsOf(settings);
  if (recipients === undefined || settings.identity === undefined) {
    throw new SeawallError("usage", "seawall rekey needs --encrypt-to and --identity");
  }
  const request = { signal: signals.stop };
  const named = settings.rekeyBackup;
  return withGenerations(context, { verb: "rekeying", unit: "objects", asks: true }, async (generations, progress) => {
    const one = named === undefined ? undefined : (await findGenerationOf(generations, named, request)).archive;
    const archives = one === undefined ? generations.named.map(({ archive }) => archive) : [one];
    // The archive was opened with the identities, so that a passphrase is asked for once.
    const identities = archives[0]?.codec.identities;
    const isShutOut = !((await identities?.recipients()) ?? []).some((name) => recipients.names.includes(name));
    if (isShutOut && !isDry && !settings.force) throw shutOut();
    const codec = new Codec({ recipients, identities });
    const outcomes: Outcome[] = [];
    for (const archive of archives) {
      const backup = named === undefined ? undefined : await backupNamed(archive, named, request);
      const options = { ...request, isDry, backup, jobs: JOBS };
      const shown = {
        onBegin: (objects: number): void => progress.begin(objects),
        onObject: (): void => progress.advance(1),
      };
      const done = await rekeyArchive({ ...archive, codec }, { ...options, ...shown }).finally(() => progress.end());
      const writers = await readEncryption(archive.store, archive.cluster, request);
      const others = mustEncrypt(writers) && !isSame(writers.to, recipients.names) ? writers.to : undefined;
      outcomes.push({ folder: archive.cluster, done, others });
    }
    const json = { cluster, dryRun: isDry, to: recipients.names, generations: outcomes.map(outcomeJson) };
    await printResult(context, json, textOf(outcomes, { cluster, isDry, isShutOut, isAsked: confirm === undefined }));
    const failure = failureOf(outcomes.map(({ done }) => done));
    if (failure !== undefined) throw failure;
    return EXIT.done;
  });
}

const SHUT_OUT = "none of the given identities would open the archive any more";
const SHUT_OUT_REMEDY =
  "Give the identity of a new recipient with --identity as well, or name the old recipient with --encrypt-to too. " +
  "--force does it all the same.";

/** The new identity may be lost, or another one: then everything is lost. */
function shutOut(): SeawallError {
  return new SeawallError("usage", SHUT_OUT, { hint: SHUT_OUT_REMEDY });
}

interface Outcome {
  /** The generation's folder. */
  readonly folder: string;
  readonly done: Rekeyed;
  /** Recipients of the writers, where these are others. */
  readonly others: readonly string[] | undefined;
}

function outcomeJson({ folder, done, others }: Outcome): object {
  const { locked, cold, damaged, ...counts } = done;
  const firsts = (kept: readonly Kept[]): object => ({
    objects: kept.length,
    first: kept.slice(0, NAMED_MAX).map(({ key, error }) => ({ key, message: error.message })),
  });
  return {
    folder,
    ...counts,
    locked: firsts(locked),
    cold: firsts(cold),
    damaged: firsts(damaged),
    writersTo: others ?? null,
  };
}

function textOf(
  outcomes: readonly Outcome[],
  options: {
    readonly cluster: string;
    readonly isDry: boolean;
    /** The identity is of none of the new recipients. */
    readonly isShutOut: boolean;
    readonly isAsked: boolean;
  },
): string {
  const { cluster, isDry, isShutOut, isAsked } = options;
  const parts = outcomes.flatMap(({ folder, done, others }) => [
    ...(outcomes.length > 1 ? [`${folder}:`] : []),
    ...linesOf(done, isDry),
    ...(others === undefined
      ? []
      : [`The last writer encrypted to ${others.join(", ")}: give the new recipients to all writers.`]),
  ]);
  const isLeft = outcomes.some(({ done }) => done.objects > 0);
  return [
    ...parts,
    ...(isShutOut && isLeft && isDry ? ["", `It will be refused, because ${SHUT_OUT}. ${SHUT_OUT_REMEDY}`] : []),
    ...(isAsked && isLeft ? ["", `To do it: add --confirm ${cluster}`] : []),
  ].join("\n");
}

function linesOf(done: Rekeyed, isDry: boolean): string[] {
  const { objects, bytes, already, plain, open, unfinished, gone, hidden, locked, cold, damaged } = done;
  const size = objects === 0 ? "" : `, ${humanBytes(bytes)}`;
  const line = (count: number, text: string): string[] => (count === 0 ? [] : [`${counted(count, "object")} ${text}`]);
  return [
    isDry
      ? `${counted(objects, "object")} would be encrypted to the new recipients${size}.`
      : `${counted(objects, "object")} encrypted to the new recipients${size}.`,
    ...line(already, "encrypted to them already."),
    ...line(plain, "not encrypted, and left plain."),
    ...line(open, "of the open segment left unchanged until the segment is full."),
    ...line(unfinished, "of backups that are not finished left unchanged."),
    ...line(gone, "deleted meanwhile."),
    ...line(hidden, "kept by the store as old versions: the old identity still opens these."),
    ...keptLines(locked, "left as they are: the identity does not open them."),
    ...keptLines(cold, "left as they are: their storage class cannot be read."),
    ...keptLines(damaged, "damaged, and left as they are."),
  ];
}

function keptLines(kept: readonly Kept[], text: string): string[] {
  if (kept.length === 0) return [];
  const more = kept.length > NAMED_MAX ? [`  and ${kept.length - NAMED_MAX} more`] : [];
  const named = kept.slice(0, NAMED_MAX).map(({ error }) => `  ${error.message}`);
  return [`${counted(kept.length, "object")} ${text}`, ...named, ...more];
}

/** The exit status is that of the first object that was left. */
function failureOf(done: readonly Rekeyed[]): SeawallError | undefined {
  const damaged = done.flatMap((one) => one.damaged);
  const locked = done.flatMap((one) => one.locked);
  const cold = done.flatMap((one) => one.cold);
  const all = [...damaged, ...locked, ...cold];
  const [first] = all;
  if (first === undefined) return undefined;
  const { code } = first.error;
  const hint = hintFor(first, { damaged, locked });
  const left = counted(all.length, "object");
  return new SeawallError(code, `${left} could not be given the new recipients, among them ${first.key}`, { hint });
}

function hintFor(
  { error }: Kept,
  { damaged, locked }: { readonly damaged: readonly Kept[]; readonly locked: readonly Kept[] },
): string | undefined {
  if (damaged.length > 0) return "seawall verify says what that means.";
  return locked.length > 0 ? "Give the identities of their recipients too." : error.hint;
}
