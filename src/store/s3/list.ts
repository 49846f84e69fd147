/** A page of a listing, checked against what the answer says of itself. Pure. */
import type { ListObjectsV2CommandOutput } from "@aws-sdk/client-s3";

export interface ListPage {
  readonly objects: readonly { readonly key: string; readonly bytes: number; readonly modifiedAt: Date }[];
  readonly prefixes: readonly string[];
  /** Undefined on the last page. */
  readonly continuation: string | undefined;
}

export interface UncheckedPage extends ListPage {
  readonly keyCount: number | undefined;
  readonly isTruncated: boolean | undefined;
}

/** The page as the SDK read it; undefined when `checkedPage` refuses it. */
export function pageOf(output: ListObjectsV2CommandOutput, prefix: string): ListPage | undefined {
  const page: UncheckedPage = {
    objects: (output.Contents ?? []).map(({ Key = "", Size = Number.NaN, LastModified }) => ({
      key: Key,
      bytes: Size,
      modifiedAt: LastModified ?? new Date(Number.NaN),
    })),
    prefixes: (output.CommonPrefixes ?? []).map(({ Prefix = "" }) => Prefix),
    keyCount: output.KeyCount,
    isTruncated: output.IsTruncated,
    continuation: output.NextContinuationToken,
  };
  return checkedPage(page, prefix);
}

/**
 * Undefined when the page does not list what it says: KeyCount, the facts of each object, the token to go on with. Every key
 * must be below the prefix that was asked for.
 */
export function checkedPage(page: UncheckedPage, prefix: string): ListPage | undefined {
  const { objects, prefixes, keyCount, isTruncated, continuation = "" } = page;
  const isWhole =
    keyCount === objects.length + prefixes.length &&
    objects.every(
      ({ key, bytes, modifiedAt }) =>
        key !== "" && key.startsWith(prefix) && Number.isSafeInteger(bytes) && !isNaN(+modifiedAt),
    ) &&
    prefixes.every((name) => name !== "");
  if (!isWhole || isTruncated === undefined) return undefined;
  if (!isTruncated) return { objects, prefixes, continuation: undefined };
  return continuation === "" ? undefined : { objects, prefixes, continuation };
}
