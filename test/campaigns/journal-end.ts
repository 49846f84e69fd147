/** The spool that a dead receiver has left. */
import { FileDisk } from "../../src/receive/journal/disk.ts";
import { Journal } from "../../src/receive/journal/journal.ts";
import type { Lsn } from "../../src/wal/lsn.ts";

/** End of the WAL in it; 0 without a spool. No receiver may use it meanwhile. */
export async function journalEnd(spool: string | undefined): Promise<Lsn> {
  if (spool === undefined) return 0n as Lsn;
  const journal = await Journal.open(new FileDisk(spool, "main"));
  const end = journal.tip?.lsn ?? (0n as Lsn);
  await journal.close();
  return end;
}
