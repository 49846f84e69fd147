/** Reads a page of a listing, a flat list of flat records, as text. Pure; the checks are those of list.ts. */
import { isWhole, unescape } from "./document.ts";
import { type ListPage, checkedPage } from "./list.ts";

/** Undefined when the page is not whole or does not list what it says. */
export function readPage(xml: string, prefix: string): ListPage | undefined {
  if (!isWhole(xml, "ListBucketResult")) return undefined;
  const isTruncated = field(xml, "IsTruncated");
  return checkedPage(
    {
      objects: blocks(xml, "Contents").map((block) => ({
        key: field(block, "Key") ?? "",
        bytes: Number(field(block, "Size") ?? Number.NaN),
        modifiedAt: new Date(field(block, "LastModified") ?? Number.NaN),
      })),
      prefixes: blocks(xml, "CommonPrefixes").map((block) => field(block, "Prefix") ?? ""),
      keyCount: Number(field(xml, "KeyCount") ?? Number.NaN),
      isTruncated: isTruncated === "true" ? true : isTruncated === "false" ? false : undefined,
      continuation: field(xml, "NextContinuationToken"),
    },
    prefix,
  );
}

function blocks(xml: string, name: string): string[] {
  const found: string[] = [];
  const open = `<${name}>`;
  const close = `</${name}>`;
  for (let at = xml.indexOf(open); at >= 0;) {
    const end = xml.indexOf(close, at);
    if (end < 0) break;
    found.push(xml.slice(at + open.length, end));
    at = xml.indexOf(open, end);
  }
  return found;
}

/** The first one of this name: a listing has thousands of records, so nothing is looked at twice. */
function field(xml: string, name: string): string | undefined {
  const open = `<${name}>`;
  const at = xml.indexOf(open);
  const end = at < 0 ? -1 : xml.indexOf("</", at + open.length);
  if (end < 0 || !xml.startsWith(`${name}>`, end + 2)) return undefined;
  const value = xml.slice(at + open.length, end);
  return value.includes("&") ? unescape(value) : value;
}
