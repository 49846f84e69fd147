/** `seawall cluster allow-plain`: shows whether an archive is encrypted. With its name typed once more it takes plain data again. */
import { allowPlain, type EncryptionNote, mustEncrypt, readEncryption } from "../../archive/encryption.ts";
import { EXIT } from "../../error-kinds.ts";
import { type CommandContext, printResult, refuseOtherName } from "../context.ts";
import { withArchive } from "../with-archive.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals } = context;
  const { cluster, confirm } = settings;
  refuseOtherName(settings);
  return withArchive(context, { verb: "changing" }, async (archive) => {
    const request = { signal: signals.stop };
    const place = { store: archive.store, folder: archive.cluster };
    const note = await readEncryption(place.store, place.folder, request);
    const isDry = settings.dryRun || confirm === undefined;
    if (!isDry) await allowPlain(place, new Date().toISOString(), request);
    const document = {
      dryRun: isDry,
      cluster,
      wasEncrypted: mustEncrypt(note),
      to: note?.to ?? [],
      since: note?.since ?? null,
    };
    await printResult(context, document, textOf({ cluster, note, isDry }));
    return EXIT.done;
  });
}

function textOf(facts: {
  readonly cluster: string;
  readonly note: EncryptionNote | undefined;
  readonly isDry: boolean;
}): string {
  const { cluster, note, isDry } = facts;
  if (!mustEncrypt(note)) return `The archive of ${cluster} takes plain data already.`;
  const next = isDry
    ? `To let writers without --encrypt-to in again: add --confirm ${cluster}. What is encrypted stays encrypted.`
    : "From now on it takes plain data. What is encrypted stays encrypted: keep its identities.";
  return [
    `The archive of ${cluster} is encrypted since ${note.since} to ${note.to.join(", ")}.`,
    "",
    next,
    "Take encrypt-to out of the configuration of all writers first: one that starts with it makes the archive encrypted again.",
  ].join("\n");
}
