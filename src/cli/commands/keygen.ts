/** `seawall keygen`: makes an identity, writes it to a file of its own, and says what its owner does next. */
import { open, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { makeIdentity } from "../../codec/age/identities.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { type CommandContext, printResult } from "../context.ts";
import { passphraseIn } from "../keys.ts";
import { columns } from "../views/layout.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, io } = context;
  const { output, postQuantum } = settings;
  const path = resolve(output);
  const file = await openNew(path, output);
  try {
    const passphrase = await passphraseOf(context);
    const made = await makeIdentity({
      isPostQuantum: postQuantum,
      passphrase,
      createdAt: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    });
    await file.writeFile(made.file);
    await file.sync();
    await syncFolder(dirname(path));
    const { recipient } = made;
    // A drill does not ask for a passphrase.
    const passphraseFile = passphrase === undefined ? undefined : (settings.identityPassphraseFile ?? "FILE");
    const document = { file: path, recipient, protected: passphrase !== undefined };
    await printResult(context, document, textOf({ output, recipient, passphraseFile, width: io.width }));
    return EXIT.done;
  } catch (error) {
    // A half-written file would keep the next try from its name.
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** The name of the file survives a crash then: writers may encrypt to the identity from now on. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function openNew(path: string, output: string): Promise<Awaited<ReturnType<typeof open>>> {
  try {
    return await open(path, "wx", 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EEXIST") throw new SeawallError("usage", `cannot write ${output}`, { cause });
    throw new SeawallError("usage", `${output} is there already, and is kept`, {
      cause,
      hint: "Data may be encrypted to the identity in it. Name another file with --output.",
    });
  }
}

/** Undefined for a file without a passphrase. Throws `usage`, and `aborted` when the question was cancelled. */
async function passphraseOf({ settings, io, signals }: CommandContext): Promise<string | undefined> {
  const { passphrase, identityPassphraseFile } = settings;
  if (identityPassphraseFile !== undefined) return refuseEmpty(await passphraseIn(identityPassphraseFile));
  if (!passphrase) return undefined;
  if (io.ask === undefined) {
    throw new SeawallError("usage", "--passphrase asks on a terminal, and there is none", {
      hint: "Give a file with the passphrase: --identity-passphrase-file.",
    });
  }
  const hidden = { isHidden: true, signal: signals.stop };
  const first = refuseEmpty(await io.ask("Passphrase of the identity: ", hidden));
  if ((await io.ask("The same once more: ", hidden)) === first) return first;
  throw new SeawallError("usage", "the two passphrases differ, so no identity was written", {
    hint: "Run the command again.",
  });
}

function refuseEmpty(passphrase: string): string {
  if (passphrase !== "") return passphrase;
  throw new SeawallError("usage", "the passphrase is empty", {
    hint: "Leave out --passphrase for a file without one.",
  });
}

function textOf(made: {
  readonly output: string;
  readonly recipient: string;
  /** Undefined for an identity without a passphrase. */
  readonly passphraseFile: string | undefined;
  readonly width: number | undefined;
}): string {
  const { output, recipient, passphraseFile, width } = made;
  const opened = passphraseFile === undefined ? "" : ` --identity-passphrase-file ${passphraseFile}`;
  return [
    ...columns(
      [
        ["identity", `${output}, which only you can read`],
        ["recipient", recipient],
      ],
      width,
    ),
    "",
    "If all identities are lost, the archive is lost. Next:",
    `  1. Keep ${output} on a machine that is not the database's, and a copy of it in a safe place.`,
    "  2. Make a second identity and keep it elsewhere: seawall keygen --output FILE",
    `  3. Give both recipients to every writer: --encrypt-to ${recipient}`,
    `  4. Prove that it opens the newest backup: seawall drill --identity ${output}${opened}`,
  ].join("\n");
}
