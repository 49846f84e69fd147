/** An empty folder that a server may use as a tablespace: it belongs to the account that servers run as. */
import { chownSync, mkdirSync } from "node:fs";
import { serverAccount } from "./account.ts";

export function makeTablespaceFolder(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const account = serverAccount();
  if (account !== undefined) chownSync(path, account.uid, account.gid);
  return path;
}
