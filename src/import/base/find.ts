/** Tells by the files at its top what a source holds: WAL, a base backup of pg_basebackup, or a stanza's backups of pgBackRest. */
import type { RequestOptions } from "../../store/store.ts";
import type { ImportSource } from "../source.ts";
import { refused } from "./found.ts";
import { INFO } from "../pgbackrest/info.ts";
import { MANIFEST } from "./manifest.ts";
import { firstOf, hasFile } from "./small-file.ts";
import { findTar } from "./tar.ts";

export type SourceKind =
  /** `base`: the name of base.tar. */
  | { readonly kind: "tar"; readonly base: string }
  | { readonly kind: "plain" }
  /** A stanza's folder below backup/ of pgBackRest. */
  | { readonly kind: "pgbackrest" }
  | { readonly kind: "wal" };

/** Files that every data directory has, and no WAL archive. */
const DATA_DIRECTORY = ["PG_VERSION", "backup_label", "postmaster.pid"];

/** Throws `import-source` for a part of a backup that cannot be imported by itself. */
export async function kindOf(source: ImportSource, options: RequestOptions): Promise<SourceKind> {
  const base = await findTar(source, "base", options);
  if (base !== undefined) return { kind: "tar", base };
  if ((await firstOf(source, DATA_DIRECTORY, options)) !== undefined) return { kind: "plain" };
  if ((await firstOf(source, [INFO, `${INFO}.copy`], options)) !== undefined) return { kind: "pgbackrest" };
  if (await hasFile(source, "backup.manifest", options)) {
    throw refused(
      `${source.description} is one backup of a pgBackRest repository`,
      "Name the stanza's folder above it, and this backup by --set LABEL: its files may lie in other backups.",
    );
  }
  if (!(await hasFile(source, MANIFEST, options))) return { kind: "wal" };
  throw refused(
    `${source.description} has a ${MANIFEST}, and neither base.tar nor PG_VERSION`,
    "The backup is not complete: copy all of its files.",
  );
}
