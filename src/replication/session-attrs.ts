/**
 * Compares the parameters that a server reports while connecting with target_session_attrs. Pure.
 *
 * From PostgreSQL 14 on `in_hot_standby` and `default_transaction_read_only` are reported at startup, to replication
 * connections as well, so nothing needs to be asked (fe-connect.c, CONNECTION_CHECK_TARGET).
 */

export function matchesSessionAttrs(attrs: string, parameters: ReadonlyMap<string, string>): boolean {
  const standby = parameters.get("in_hot_standby") === "on";
  const readOnly = standby || parameters.get("default_transaction_read_only") === "on";
  switch (attrs) {
    case "read-write":
      return !readOnly;
    case "read-only":
      return readOnly;
    case "primary":
      return !standby;
    case "standby":
      return standby;
    default:
      return true;
  }
}

/** `18.4`, `14.23 (Debian …)`, `19beta1` as PQserverVersion counts: major times 10000 plus minor; 0 when unreadable. */
export function serverVersionNumber(text: string | undefined): number {
  const match = /^(\d+)(?:\.(\d+))?/.exec(text ?? "");
  return match?.[1] === undefined ? 0 : Number(match[1]) * 10000 + Number(match[2] ?? 0);
}
