/** The options of `seawall init`: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, text } from "./types.ts";

const INIT: readonly CommandName[] = ["init"];

export const INIT_OPTIONS = {
  initConfig: option(text("file", "path"), {
    sharesName: true,
    commands: INIT,
    default: "seawall.yaml",
    help: "the configuration file to write; what is to be done lands beside it",
    more: "An existing file is kept unless `--force` is given. A password goes into a file of its own beside it (mode 0600), which `dsn` names as `passfile`.",
  }),
  initBackup: option(boolean, {
    sharesName: true,
    commands: INIT,
    default: false,
    flagOnly: true,
    help: "take the first base backup, with its WAL; the replication slot is made first, for the receiver",
  }),
} as const;
