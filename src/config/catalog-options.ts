/** The options of the commands that look at an archive: a part of the one table (options.ts). */
import { option } from "./option-spec.ts";
import { boolean } from "./types.ts";

export const CATALOG_OPTIONS = {
  deep: option(boolean, {
    commands: ["verify"],
    default: false,
    flagOnly: true,
    help: "read everything: each record of the WAL, each file of each backup against its manifest",
  }),
  full: option(boolean, {
    commands: ["verify"],
    default: false,
    flagOnly: true,
    help: "verify also objects that an earlier run verified and that have not changed since",
  }),
} as const;
