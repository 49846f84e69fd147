/**
 * The little XML that S3 speaks: flat lists of flat records. No entities beyond XML's five and numbers, no attributes
 * that matter, no nesting of an element in itself.
 */

export interface ListPage {
  readonly objects: readonly { readonly key: string; readonly bytes: number; readonly modifiedAt: Date }[];
  readonly prefixes: readonly string[];
  /** Undefined on the last page. */
  readonly continuation: string | undefined;
}

export interface ErrorDocument {
  readonly code: string;
  readonly message: string;
  readonly region: string | undefined;
}

/** ListObjectsV2's answer; undefined when the document is none. */
export function parseListPage(xml: string): ListPage | undefined {
  if (!xml.includes("<ListBucketResult")) return undefined;
  const objects = blocks(xml, "Contents").map((block) => ({
    key: field(block, "Key") ?? "",
    bytes: Number(field(block, "Size") ?? Number.NaN),
    modifiedAt: new Date(field(block, "LastModified") ?? Number.NaN),
  }));
  const prefixes = blocks(xml, "CommonPrefixes").map((block) => field(block, "Prefix") ?? "");
  const truncated = field(xml, "IsTruncated") === "true";
  return { objects, prefixes, continuation: truncated ? (field(xml, "NextContinuationToken") ?? "") : undefined };
}

/** Any document with an `Error` at its root; S3 also sends one with status 200 (CompleteMultipartUpload). */
export function parseError(xml: string): ErrorDocument | undefined {
  const block = blocks(xml, "Error")[0];
  if (block === undefined) return undefined;
  return {
    code: field(block, "Code") ?? "",
    message: field(block, "Message") ?? "",
    region: field(block, "Region"),
  };
}

export interface DeleteFailure extends ErrorDocument {
  readonly key: string;
}

/** What failed, of DeleteObjects' answer. Undefined when the document is none. */
export function parseDeleteFailures(xml: string): DeleteFailure[] | undefined {
  if (!xml.includes("<DeleteResult")) return undefined;
  return blocks(xml, "Error").map((block) => ({
    key: field(block, "Key") ?? "",
    code: field(block, "Code") ?? "",
    message: field(block, "Message") ?? "",
    region: undefined,
  }));
}

/** How many objects DeleteObjects has only hidden behind a delete marker; of an answer that is not quiet. */
export function countDeleteMarkers(xml: string): number {
  return blocks(xml, "Deleted").filter((block) => field(block, "DeleteMarker") === "true").length;
}

export function parseUploadId(xml: string): string | undefined {
  return field(xml, "UploadId");
}

/** Quiet: the answer names only what failed. */
export function formatDelete(keys: readonly string[], quiet: boolean): string {
  const objects = keys.map((key) => `<Object><Key>${escape(key)}</Key></Object>`).join("");
  return `<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="${NAMESPACE}"><Quiet>${quiet}</Quiet>${objects}</Delete>`;
}

export interface CompletedPart {
  readonly etag: string;
  /** Base64, when the server was told one. */
  readonly crc32c: string | undefined;
}

/** Parts are numbered from 1 in the order given. */
export function formatCompleteUpload(parts: readonly CompletedPart[]): string {
  const body = parts
    .map(({ etag, crc32c }, index) => {
      const checksum = crc32c === undefined ? "" : `<ChecksumCRC32C>${crc32c}</ChecksumCRC32C>`;
      return `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escape(etag)}</ETag>${checksum}</Part>`;
    })
    .join("");
  const open = `<CompleteMultipartUpload xmlns="${NAMESPACE}">`;
  return `<?xml version="1.0" encoding="UTF-8"?>${open}${body}</CompleteMultipartUpload>`;
}

const NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

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

function escape(text: string): string {
  return text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{2,4}));/g,
    (whole, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return ENTITIES[name] ?? whole;
      const code = decimal === undefined ? Number.parseInt(hex ?? "", 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}
