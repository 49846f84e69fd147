/**
 * Notices that the daemon has sent, so that a restarted one does not send them again. One small document each, never
 * changed; the newest stay.
 */
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { startOf } from "../backups/list.ts";
import { mapBounded } from "../bounded.ts";
import { decodeDocument, encodeDocument } from "../json-document.ts";
import { noticeKey, noticesPrefix } from "../keys.ts";
import { putPlainOnce } from "../put-once.ts";
import { ifReadable } from "../damage.ts";
import { afterStoring, oldestFirst, recordIds } from "./records.ts";

const NOTICE_KINDS = ["state", "end", "once"] as const;

export interface ToldNotice {
  /** Like a backup's id: when it was told, and random digits. */
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly toldAt: string;
  readonly event: string;
  readonly subject: string;
  readonly kind: (typeof NOTICE_KINDS)[number];
  readonly state: string;
}

/** Notices that are kept. */
const NOTICES_KEPT = 64;
const READS_IN_FLIGHT = 8;

/** Stores the document, and lets go of the oldest. Throws what the store throws. */
export async function putNotice(archive: Archive, notice: ToldNotice, options: RequestOptions = {}): Promise<void> {
  const { store, cluster } = archive;
  await putPlainOnce(store, noticeKey(cluster, notice.id), encodeDocument({ ...notice }), options);
  await afterStoring(async () => {
    const ids = oldestFirst(await recordIds(archive, noticesPrefix(cluster), options), startOf(notice.id));
    const old = ids.slice(0, -NOTICES_KEPT).map((id) => noticeKey(cluster, id));
    if (old.length > 0) await store.delete(old, options);
  });
}

/**
 * Lists notices from the oldest to the newest, those dated ahead of `now` first; what cannot be read is left out. Throws what
 * the store throws.
 */
export async function listNotices(archive: Archive, now: Date, options: RequestOptions = {}): Promise<ToldNotice[]> {
  const found = await recordIds(archive, noticesPrefix(archive.cluster), options);
  const ids = oldestFirst(found, now).slice(-NOTICES_KEPT);
  const read = await mapBounded(ids, READS_IN_FLIGHT, (id) => ifReadable(readNotice(archive, id, options)));
  return read.filter((notice) => notice !== undefined);
}

async function readNotice(archive: Archive, id: string, options: RequestOptions): Promise<ToldNotice | undefined> {
  const key = noticeKey(archive.cluster, id);
  const found = await archive.store.get(key, options);
  if (found === undefined) return undefined;
  const fields = decodeDocument(found.body, key);
  return {
    id: fields.text("id"),
    toldAt: fields.time("toldAt"),
    event: fields.text("event"),
    subject: fields.text("subject"),
    kind: fields.oneOf("kind", NOTICE_KINDS),
    state: fields.text("state"),
  };
}
