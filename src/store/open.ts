/** From a store URL to a store. */
import { SeawallError } from "../errors.ts";
import { FileStore } from "./file.ts";
import { S3Store, type S3StoreOptions } from "./s3.ts";
import { parseS3Url } from "./s3-url.ts";
import { type Store } from "./store.ts";

/** The environment is where S3 credentials and defaults are looked for. */
export type OpenStoreOptions = S3StoreOptions;

const HINT = "A store is file:///absolute/path or s3://bucket/prefix?endpoint=…&region=…";

/** Opens no connection and touches no file. Throws `usage` for a URL that is none of ours; never quotes credentials. */
export function openStore(url: string, options: OpenStoreOptions): Store {
  const parsed = parseUrl(url);
  if (/^file:\/\//i.test(url)) return openFileStore(parsed);
  if (/^s3:\/\//i.test(url)) return new S3Store(parseS3Url(parsed), options);
  throw new SeawallError("usage", `there is no store for ${parsed.protocol} URLs of this form`, { hint: HINT });
}

function parseUrl(url: string): URL {
  try {
    return new URL(url);
  } catch {
    // Without the cause: it quotes the whole text.
    throw new SeawallError("usage", "the store is not a URL", { hint: HINT });
  }
}

function openFileStore(url: URL): Store {
  if (url.host !== "" || url.search !== "" || url.hash !== "" || url.username !== "") {
    throw new SeawallError("usage", "a file store is a path and nothing else: file:///absolute/path", {
      hint: "Mind the three slashes; write special characters as %20, %23, %3F.",
    });
  }
  return new FileStore(decodePath(url.pathname));
}

function decodePath(pathname: string): string {
  let path = "\0";
  try {
    path = decodeURIComponent(pathname);
  } catch {
    // Reported below, like a zero byte: neither can be a path.
  }
  if (path.includes("\0")) throw new SeawallError("usage", "the store's path is not a valid path", { hint: HINT });
  return path;
}
