/** Opens the store that a URL names. */
import { SeawallError } from "../errors.ts";
import { openFileStore } from "./file/url.ts";
import type { S3StoreOptions } from "./s3/objects.ts";
import { s3Store } from "./s3/store.ts";
import { parseS3Url } from "./s3/url.ts";
import { parseStoreUrl, type SchemeName, schemeName, STORE_URL_HINT } from "./schemes.ts";
import type { Store } from "./store.ts";

/** The environment is where S3 credentials and defaults are looked for. */
export type OpenStoreOptions = S3StoreOptions;

const DRIVERS: Readonly<Record<SchemeName, (url: string, options: OpenStoreOptions) => Store | undefined>> = {
  s3: (url, options) => s3Store(parseS3Url(parseStoreUrl(url)), options),
  file: (url) => openFileStore(url),
};

/** Opens no connection and touches no file. Throws `usage` for a URL that is none of ours; never quotes credentials. */
export function openStore(url: string, options: OpenStoreOptions): Store {
  const name = schemeName(url);
  const store = name === undefined ? undefined : DRIVERS[name](url, options);
  if (store !== undefined) return store;
  throw new SeawallError("usage", `there is no store for ${parseStoreUrl(url).protocol} URLs of this form`, {
    hint: STORE_URL_HINT,
  });
}
