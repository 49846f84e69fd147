/** The history files of a journal, for the archive behind it. */
import type { TimelineId } from "../../wal/lsn.ts";
import type { Journal } from "./journal.ts";

/** By timeline, ancestors first, as the server gave them. */
export async function historyFiles(journal: Journal): Promise<Map<TimelineId, Uint8Array>> {
  const files = new Map<TimelineId, Uint8Array>();
  for (const timeline of journal.historyTimelines) {
    const content = await journal.readHistory(timeline);
    if (content !== undefined) files.set(timeline, content);
  }
  return files;
}
