/** What the tests of this room share: settings without this machine's environment, errors as values. */
import type { SeawallError } from "../../src/errors.ts";
import { readConninfoFile } from "../../src/replication/conninfo-files.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import type { ConnectionSettings } from "../../src/replication/settings.ts";

/** Settings from the string alone (and files it names), whatever PG* variables and dot files this machine has. */
export function settingsFor(dsn: string, env: Record<string, string> = {}): ConnectionSettings {
  return parseConninfo({ dsn, env, files: readConninfoFile });
}

/** The error that `work` ends with; fails when it does not. */
export async function failure(work: Promise<unknown>): Promise<SeawallError> {
  try {
    await work;
  } catch (error) {
    return error as SeawallError;
  }
  throw new Error("expected an error, and there was none");
}
