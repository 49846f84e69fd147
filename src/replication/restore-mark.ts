/**
 * The mark of a restored copy: a setting that `seawall restore` writes and that names the archive, the backup and the time
 * of the restore. It survives promotion and restarts, and base backups of the server copy it.
 */
import { SeawallError } from "../errors.ts";
import { configurationLines } from "./configuration-lines.ts";

export const MARK_SETTING = "seawall.restored_from";

/** SQLSTATE undefined_object: the server has no such setting. */
const UNDEFINED_OBJECT = "42704";

/** The mark in the text of a postgresql.auto.conf; undefined without one. The last setting of a name counts. */
export function markIn(autoConf: string): string | undefined {
  const value = configurationLines(autoConf).findLast(({ name }) => name === MARK_SETTING)?.value;
  return value === "" ? undefined : value;
}

/** The server's mark; undefined for a server that no restore has made. */
export async function readRestoreMark(connection: {
  readonly show: (name: string) => Promise<string>;
}): Promise<string | undefined> {
  try {
    const value = await connection.show(MARK_SETTING);
    return value === "" ? undefined : value;
  } catch (error) {
    const cause = error instanceof SeawallError ? error.cause : undefined;
    if (cause instanceof Error && "code" in cause && cause.code === UNDEFINED_OBJECT) return undefined;
    throw error;
  }
}
