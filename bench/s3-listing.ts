/** Pages of ListObjectsV2 over a sorted list of keys, for the S3 servers of the benches. Pure. */

export interface Entry {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedAt: string;
}

/** Index of the first entry whose key is not below `key`. */
export function lowerBound(entries: readonly Entry[], key: string): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle]?.key ?? "") < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Sorts behind every key below a folder: the character after the slash. */
const behind = (folder: string): string => `${folder.slice(0, -1)}0`;

export function listPage(entries: readonly Entry[], query: URLSearchParams): string {
  const prefix = query.get("prefix") ?? "";
  const max = Number(query.get("max-keys") ?? 1000);
  const isGrouped = query.get("delimiter") === "/";
  const token = query.get("continuation-token") ?? "";
  const after = token === "" ? (query.get("start-after") ?? "") : token.endsWith("/") ? behind(token) : token;
  let at = after > prefix ? lowerBound(entries, `${after}\0`) : lowerBound(entries, prefix);
  let body = "";
  let last = "";
  let count = 0;
  for (let entry = entries[at]; entry?.key.startsWith(prefix) === true && count < max; entry = entries[at], count++) {
    const slash = isGrouped ? entry.key.indexOf("/", prefix.length) : -1;
    if (slash >= 0) {
      last = entry.key.slice(0, slash + 1);
      body += `<CommonPrefixes><Prefix>${last}</Prefix></CommonPrefixes>`;
      at = lowerBound(entries, behind(last));
    } else {
      last = entry.key;
      body += `<Contents><Key>${last}</Key><LastModified>${entry.modifiedAt}</LastModified><ETag>"0123456789abcdef0123456789abcdef"</ETag><Size>${entry.bytes}</Size><StorageClass>STANDARD</StorageClass></Contents>`;
      at++;
    }
  }
  const isTruncated = entries[at]?.key.startsWith(prefix) === true;
  const next = isTruncated ? `<NextContinuationToken>${last}</NextContinuationToken>` : "";
  return `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><KeyCount>${count}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>${next}${body}</ListBucketResult>`;
}
