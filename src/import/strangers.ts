/**
 * Recognises by names of files a source that holds something else than a WAL archive: base backups in its folders, or an archive of
 * Seawall. WAL that lies in them is only a part of what its owner wants to import.
 */
import { identityKey } from "../archive/keys.ts";
import { SeawallError } from "../errors.ts";
import type { ImportSource, SourceFile } from "./source.ts";

/** Every archive of Seawall has this file: `cluster.json`. */
const IDENTITY_FILE = identityKey("").slice(1);
/** Folders that a message names. */
const SHOWN = 5;
const BACKUP_FILE = /^(?:backup_manifest|base\.tar(?:\.(?:gz|lz4|zst|bz2|xz))?)$/;
/** The folder of pg_control in a data directory. In pgBackRest's repository that directory is called pg_data. */
const CONTROL_FOLDER = /^(.*\/)?global\/$/;
const PGBACKREST_DATA = /(?:^|\/)pg_data\/$/;

export class Strangers {
  readonly #backups = new Set<string>();
  #archive: string | undefined;

  note({ folder, name }: SourceFile): void {
    if (name === IDENTITY_FILE && folder.split("/").length <= 2) this.#archive ??= folder;
    const backup = BACKUP_FILE.test(name) ? folder : name === "pg_control" ? dataFolder(folder) : undefined;
    if (backup !== undefined) this.#backups.add(backup);
  }

  /** Throws `import-source` where the source is no WAL archive. */
  refuse({ description }: ImportSource): void {
    if (this.#archive !== undefined) {
      const where = this.#archive === "" ? description : `${this.#archive.slice(0, -1)} in ${description}`;
      throw new SeawallError("import-source", `${where} is an archive of Seawall: it has a ${IDENTITY_FILE}`, {
        hint: "Copy the archive as docs/move.md says. A copy also has its base backups, pins and gaps.",
      });
    }
    if (this.#backups.size === 0) return;
    const folders = [...this.#backups].sort().map((folder) => (folder === "" ? "its top folder" : folder.slice(0, -1)));
    const more = folders.length > SHOWN ? ` and ${folders.length - SHOWN} more folders` : "";
    throw new SeawallError(
      "import-source",
      `${description} holds base backups, in ${folders.slice(0, SHOWN).join(", ")}${more}; nothing was imported`,
      {
        hint: "Import each base backup by the name of its folder, and WAL by the name of the folder that has only WAL.",
      },
    );
  }
}

function dataFolder(folder: string): string | undefined {
  const [, above = ""] = CONTROL_FOLDER.exec(folder) ?? [];
  return CONTROL_FOLDER.test(folder) && !PGBACKREST_DATA.test(above) ? above : undefined;
}
