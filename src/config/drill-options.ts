/** The options of `seawall drill`: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, text } from "./types.ts";

const DRILL: readonly CommandName[] = ["drill"];

export const DRILL_OPTIONS = {
  pgBin: option(text("dir", "path"), {
    commands: DRILL,
    help: "directory of PostgreSQL's programs, of the backup's major version",
    more: "Without it Seawall looks along `PATH`, then where the packages of Debian and PGDG install them.",
  }),
  scratchDir: option(text("dir", "path"), {
    commands: DRILL,
    help: "where the drill makes its folder, and removes it again; the directory for temporary files by default",
    more: "It must have room for the whole cluster and its WAL.",
  }),
  superuser: option(text("role"), {
    commands: DRILL,
    default: "postgres",
    help: "role of the cluster that the drill connects as",
  }),
  preload: option(text("libraries"), {
    commands: DRILL,
    help: "shared_preload_libraries of the drill's server; none by default",
    more: "For libraries that the cluster's WAL or types need. The drill takes none over from the cluster.",
  }),
  sql: option(text("query"), {
    commands: DRILL,
    repeatable: true,
    help: "ask the recovered server: the first value must be neither false nor null; may be repeated",
    more: '`database: SELECT …` asks another database than `postgres` (or `template1`, where that is dropped). A name with other characters stands in quotes: `"a=b c": SELECT …`. In the file, for scheduled drills, it is one text or a list of them.',
  }),
  amcheck: option(boolean, {
    commands: DRILL,
    default: true,
    help: "run pg_amcheck on every database, where it is installed",
  }),
  checksums: option(boolean, {
    commands: DRILL,
    default: true,
    help: "check every page's checksum at the end, where the cluster has them",
  }),
  keep: option(boolean, {
    commands: DRILL,
    default: false,
    flagOnly: true,
    help: "keep the recovered data directory, stopped, and print its path",
  }),
} as const;
