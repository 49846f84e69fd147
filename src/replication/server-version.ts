/** The major versions of the server that Seawall works with: those whose WAL it can verify (wal/format.ts). */
import { SeawallError } from "../errors.ts";
import { isNewerMajor, MAJOR_MAX, MAJOR_MIN } from "../wal/format.ts";

const KNOWN = `This Seawall knows ${MAJOR_MIN} to ${MAJOR_MAX}`;

/** Reads the major version from `server_version_num`. Throws `server-version` for one that is too old or too new. */
export function knownMajor(serverVersion: number): number {
  return majorOf(serverVersion, `${KNOWN}: upgrade it, or see docs/versions.md.`);
}

export interface NewerServers {
  /** `--allow-newer-server`; undefined for a command without that option. */
  readonly allowsNewer: boolean | undefined;
}

/** The same for receiving, where a newer server may be allowed. */
export function receivableMajor(serverVersion: number, { allowsNewer }: NewerServers): number {
  if (allowsNewer === undefined) return knownMajor(serverVersion);
  if (allowsNewer && isNewerServer(serverVersion)) return Math.floor(serverVersion / 10000);
  return majorOf(
    serverVersion,
    `${KNOWN}: upgrade it. With --allow-newer-server the WAL is archived, and cannot be restored until you have; see docs/versions.md.`,
  );
}

export function isNewerServer(serverVersion: number): boolean {
  return isNewerMajor(Math.floor(serverVersion / 10000));
}

/** `newerHint` is for a server that is too new. */
function majorOf(serverVersion: number, newerHint: string): number {
  const major = Math.floor(serverVersion / 10000);
  if (major < MAJOR_MIN) {
    throw new SeawallError("server-version", `the server is PostgreSQL ${major}, older than Seawall supports`, {
      hint: `Upgrade PostgreSQL to ${MAJOR_MIN} or later.`,
    });
  }
  if (isNewerMajor(major)) {
    throw new SeawallError("server-version", `the server is PostgreSQL ${major}, newer than this Seawall knows`, {
      hint: newerHint,
    });
  }
  return major;
}
