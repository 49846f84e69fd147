/** The options of `seawall import`: a part of the one table (options.ts). */
import { option } from "./option-spec.ts";
import { boolean, nameMatching } from "./types.ts";

const systemIdentifier = nameMatching(/^[1-9]\d{0,19}$/, "a system identifier as pg_controldata prints it, in digits");

/** A full backup, and behind it the differential or incremental one. */
const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/;

export const IMPORT_OPTIONS = {
  systemIdentifier: option(systemIdentifier, {
    commands: ["import"],
    flagOnly: true,
    help: "import only WAL of this cluster, where the source holds WAL of several",
    more: "An archive that exists has a system identifier, and takes no other WAL. The option is for a new one.",
  }),
  set: option(nameMatching(LABEL, "the label of a backup as pgbackrest info prints it: 20261001-020000F"), {
    commands: ["import"],
    flagOnly: true,
    help: "import only this backup of a pgBackRest stanza; otherwise all of them",
  }),
  skipStored: option(boolean, {
    commands: ["import"],
    default: false,
    flagOnly: true,
    help: "do not read segments that the archive has; otherwise their content is compared",
    more: "For a source that is imported again and again, or for an import that was interrupted.",
  }),
} as const;
