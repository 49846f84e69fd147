/** The major versions of the server that Seawall works with: those whose WAL it can verify (wal/format.ts). */
import { SeawallError } from "../errors.ts";
import { MAJOR_MAX, MAJOR_MIN } from "../wal/format.ts";

/** The major version behind `server_version_num`. Throws `server-version` for one that is too old or too new. */
export function knownMajor(serverVersion: number): number {
  const major = Math.floor(serverVersion / 10000);
  if (major < MAJOR_MIN) {
    throw new SeawallError("server-version", `the server is PostgreSQL ${major}, older than Seawall supports`, {
      hint: `Upgrade PostgreSQL to ${MAJOR_MIN} or later.`,
    });
  }
  if (major > MAJOR_MAX) {
    throw new SeawallError("server-version", `the server is PostgreSQL ${major}, newer than this Seawall knows`, {
      hint: `This Seawall knows ${MAJOR_MIN} to ${MAJOR_MAX}: upgrade it, or see docs/versions.md.`,
    });
  }
  return major;
}
