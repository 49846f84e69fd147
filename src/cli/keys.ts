/** Reads the recipients and identities that the options name. The library of age is loaded only where there are some. */
import { readFile } from "node:fs/promises";
import { Identities, identitiesIn, isProtected } from "../codec/age/identities.ts";
import { Recipients, recipientsIn } from "../codec/age/recipients.ts";
import type { Settings } from "../config/options.ts";
import { SeawallError } from "../errors.ts";
import type { CommandContext } from "./context.ts";

/** Undefined without `--encrypt-to`. Throws `usage`. */
export async function recipientsOf({ encryptTo }: Pick<Settings, "encryptTo">): Promise<Recipients | undefined> {
  if (encryptTo === undefined) return undefined;
  const texts: string[] = [];
  for (const line of linesOf(encryptTo)) {
    const isRecipient = /^(age1|AGE-SECRET-KEY-|ssh-)/i.test(line);
    texts.push(...(isRecipient ? [line] : await recipientsInFile(line)));
  }
  return Recipients.of(texts);
}

/** Names the file in the error: the option, or its line in the configuration, names only the file. */
async function recipientsInFile(path: string): Promise<string[]> {
  const texts = recipientsIn((await readNamed(path, "encrypt-to")).toString("utf8"));
  try {
    await Recipients.of(texts);
  } catch (error) {
    if (!(error instanceof SeawallError)) throw error;
    const { code, message, hint, cause } = error;
    throw new SeawallError(code, `${path}: ${message}`, { hint, cause });
  }
  return texts;
}

/**
 * Undefined without `--identity`. `ask` is asked for the passphrase of a protected file where no file has it. Throws `usage`, and
 * `aborted` when the question was cancelled.
 */
export async function identitiesOf(
  { identity, identityPassphraseFile }: Pick<Settings, "identity" | "identityPassphraseFile">,
  ask?: (path: string) => Promise<string>,
): Promise<Identities | undefined> {
  if (identity === undefined) return undefined;
  const known = identityPassphraseFile === undefined ? undefined : await passphraseIn(identityPassphraseFile);
  const texts: string[] = [];
  for (const path of linesOf(identity)) {
    refusePrivateKey(path);
    const file = await readNamed(path, "identity");
    const passphrase = known ?? (isProtected(file) ? await ask?.(path) : undefined);
    texts.push(...(await identitiesIn(file, path, passphrase)));
  }
  return new Identities(texts);
}

/** Asks on the terminal, without an echo; undefined where there is none. */
export function askPassphrase({
  io,
  signals,
}: Pick<CommandContext, "io" | "signals">): ((path: string) => Promise<string>) | undefined {
  const { ask } = io;
  if (ask === undefined) return undefined;
  return async (path) => ask(`Passphrase of ${path}: `, { isHidden: true, signal: signals.stop });
}

/** The passphrase in a file: its content but for the end of the line. Throws `usage`. */
export async function passphraseIn(path: string): Promise<string> {
  return (await readNamed(path, "identity-passphrase-file")).toString("utf8").replace(/\r?\n$/, "");
}

/** A private key in the place of its file must reach no message, no log and no restore_command. */
function refusePrivateKey(path: string): void {
  if (!/^AGE-SECRET-KEY-/i.test(path)) return;
  throw new SeawallError("usage", "--identity was given a private key, and takes the file that holds it", {
    hint: "Write the key to a file that only you can read. Others may have seen it on the command line.",
  });
}

function linesOf(text: string): string[] {
  return text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [line.trim()]));
}

async function readNamed(path: string, option: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new SeawallError("usage", `cannot read ${path}, which --${option} names`, { cause });
  }
}
