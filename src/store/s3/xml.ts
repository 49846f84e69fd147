/**
 * The XML that S3 speaks: flat lists of flat records. An answer is read only when it is whole: the root element is the
 * expected one and is closed at the end, and its counts agree with its contents. Anything else is no answer.
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

/** Reads ListObjectsV2's answer; undefined when it is not one, not whole, or does not list what it says. */
export function parseListPage(xml: string): ListPage | undefined {
  const document = contentOf(xml, "ListBucketResult");
  if (document === undefined) return undefined;
  const objects = blocks(document, "Contents").map((block) => ({
    key: field(block, "Key") ?? "",
    bytes: Number(field(block, "Size") ?? Number.NaN),
    modifiedAt: new Date(field(block, "LastModified") ?? Number.NaN),
  }));
  const prefixes = blocks(document, "CommonPrefixes").map((block) => field(block, "Prefix") ?? "");
  const isWhole =
    Number(field(document, "KeyCount") ?? Number.NaN) === objects.length + prefixes.length &&
    objects.every((object) => object.key !== "" && Number.isSafeInteger(object.bytes) && !isNaN(+object.modifiedAt)) &&
    prefixes.every((prefix) => prefix !== "");
  if (!isWhole) return undefined;
  const isTruncated = field(document, "IsTruncated");
  if (isTruncated === "false") return { objects, prefixes, continuation: undefined };
  const continuation = field(document, "NextContinuationToken") ?? "";
  return isTruncated === "true" && continuation !== "" ? { objects, prefixes, continuation } : undefined;
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

export interface DeleteAnswer {
  readonly deleted: ReadonlySet<string>;
  /** Objects that were only hidden behind a delete marker. */
  readonly hidden: number;
  readonly failures: readonly DeleteFailure[];
}

/** Reads DeleteObjects' answer, one that is not quiet; undefined when it is not one or not whole. */
export function parseDelete(xml: string): DeleteAnswer | undefined {
  const document = contentOf(xml, "DeleteResult");
  if (document === undefined) return undefined;
  const deleted = blocks(document, "Deleted");
  return {
    deleted: new Set(deleted.map((block) => field(block, "Key") ?? "")),
    hidden: deleted.filter((block) => field(block, "DeleteMarker") === "true").length,
    failures: blocks(document, "Error").map((block) => ({
      key: field(block, "Key") ?? "",
      code: field(block, "Code") ?? "",
      message: field(block, "Message") ?? "",
      region: undefined,
    })),
  };
}

export function parseUploadId(xml: string): string | undefined {
  const document = contentOf(xml, "InitiateMultipartUploadResult");
  return document === undefined ? undefined : field(document, "UploadId");
}

/** True for CompleteMultipartUpload's answer that the object is there: S3 sends a failure with status 200 as well. */
export function isCompletion(xml: string): boolean {
  const document = contentOf(xml, "CompleteMultipartUploadResult");
  return document !== undefined && field(document, "ETag") !== undefined;
}

/** Not quiet: the answer names every key, so that a missing one shows. */
export function formatDelete(keys: readonly string[]): string {
  const objects = keys.map((key) => `<Object><Key>${escape(key)}</Key></Object>`).join("");
  return `<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="${NAMESPACE}"><Quiet>false</Quiet>${objects}</Delete>`;
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

/** Returns what stands inside the root element; undefined when the root is another one or the document is cut. */
function contentOf(xml: string, root: string): string | undefined {
  const match = /^\uFEFF?(?:\s|<\?[^>]*\?>|<!--(?!-->)[^]*?-->)*<([A-Za-z0-9:]+)(?:\s[^<>]*?)?(\/?)>/.exec(xml);
  if (match?.[1] !== root) return undefined;
  const end = xml.trimEnd();
  if (match[2] === "/") return end.length === match[0].length ? "" : undefined;
  return end.endsWith(`</${root}>`) ? end.slice(match[0].length, -(root.length + 3)) : undefined;
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
