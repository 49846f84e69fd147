/** Opens the store that a URL names. */
import { SeawallError } from "../errors.ts";
import { openFileStore, parseUrl, STORE_URL_HINT } from "./file/url.ts";
import { S3Store, type S3StoreOptions } from "./s3/store.ts";
import { parseS3Url } from "./s3/url.ts";
import type { Store } from "./store.ts";

/** The environment is where S3 credentials and defaults are looked for. */
export type OpenStoreOptions = S3StoreOptions;

/** Opens no connection and touches no file. Throws `usage` for a URL that is none of ours; never quotes credentials. */
export function openStore(url: string, options: OpenStoreOptions): Store {
  const directory = openFileStore(url);
  if (directory !== undefined) return directory;
  const parsed = parseUrl(url);
  if (/^s3:\/\//i.test(url)) return new S3Store(parseS3Url(parsed), options);
  throw new SeawallError("usage", `there is no store for ${parsed.protocol} URLs of this form`, {
    hint: STORE_URL_HINT,
  });
}
