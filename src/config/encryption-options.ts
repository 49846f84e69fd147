/** The options of encryption by the client: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, text } from "./types.ts";

/**
 * Commands that read what may be encrypted: `list` shows times of commits that only records state, and `cluster upgrade` looks for the
 * record of an orderly shutdown. `import` compares stored WAL with what it brings. `rekey` opens file keys.
 */
const READERS: readonly CommandName[] = [
  ...(["restore", "drill", "wal-fetch", "wal-prefetch", "verify", "list", "import"] as const),
  "cluster upgrade",
  "rekey",
];

export const ENCRYPTION_OPTIONS = {
  encryptTo: option(text("recipient"), {
    commands: ["receive", "backup", "wal-push", "import", "check", "rekey"],
    requiredBy: ["rekey"],
    repeatable: true,
    help: "encrypt everything that is stored to this age recipient (age1…) or to those in this file; may be given several times",
    more: "A recipient is a public key: what is stored can be read only with the identity that belongs to it ([encryption.md](encryption.md)). Give two, and keep their identities in two places. In the file it is a list. The path of a file is relative to the directory in which the command runs, and the server runs `archive_command` in its data directory: give the whole path. Give it to every writer of the archive.",
  }),
  identity: option(text("file", "path"), {
    commands: READERS,
    requiredBy: ["rekey"],
    repeatable: true,
    help: "file with the age identity (private key) that opens what is encrypted; may be given several times",
    more: "The file is what `age-keygen` writes. It must be readable by the server's account when `restore_command` runs. A receiver needs none.",
  }),
  identityPassphraseFile: option(text("file", "path"), {
    commands: [...READERS, "keygen"],
    help: "file with the passphrase of an identity file that is protected by one",
    more: "Without it `verify`, `list`, `import` and `cluster upgrade` ask for the passphrase on a terminal. `restore` and `drill` need the file, since the restored server cannot ask.",
  }),
  output: option(text("file", "path"), {
    commands: ["keygen"],
    default: "seawall-identity.txt",
    flagOnly: true,
    help: "the file to write; one that is there is kept",
  }),
  passphrase: option(boolean, {
    commands: ["keygen"],
    default: false,
    flagOnly: true,
    help: "protect the file by a passphrase, which is asked for twice",
  }),
  postQuantum: option(boolean, {
    commands: ["keygen"],
    default: false,
    flagOnly: true,
    help: "make a post-quantum hybrid identity (age1pq1…): age 1.3 and newer read it",
  }),
  rekeyBackup: option(text("id"), {
    sharesName: true,
    commands: ["rekey"],
    flagOnly: true,
    help: "only the objects of this backup; without it the whole archive",
    suggests: ["latest"],
  }),
} as const;
