/**
 * Says whether the contents of an archive's records can be read. WAL of a version newer than Seawall knows is archived as it
 * is (`--allow-newer-server`): its pages and CRCs can be verified, and nothing may be concluded from its records.
 */
import { SeawallError } from "../../errors.ts";
import { isNewerMajor, MAJOR_MAX } from "../../wal/format.ts";
import type { ClusterIdentity } from "../documents.ts";

export type ArchivedVersion = Pick<ClusterIdentity, "pgMajor">;

export function hasKnownRecords({ pgMajor }: ArchivedVersion): boolean {
  return !isNewerMajor(pgMajor);
}

/** Throws `wal-version`; `purpose` is what the contents are needed for, after "cannot". */
export function requireKnownRecords(identity: ArchivedVersion, purpose: string): void {
  if (hasKnownRecords(identity)) return;
  throw new SeawallError(
    "wal-version",
    `cannot ${purpose}: the archive is of PostgreSQL ${identity.pgMajor}, and this Seawall knows versions up to ${MAJOR_MAX}`,
  );
}
