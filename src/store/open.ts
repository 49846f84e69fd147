/** From a store URL to a store. */
import { SeawallError } from "../errors.ts";
import { FileStore } from "./file.ts";
import { type Store } from "./store.ts";

export interface OpenStoreOptions {
  /** Where S3 credentials and defaults are looked for. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

const HINT = "A store is file:///absolute/path or s3://bucket/prefix?endpoint=…&region=…";

/** Opens no connection and touches no file. Throws `usage` for a URL that is none of ours; never quotes credentials. */
export function openStore(url: string, _options: OpenStoreOptions): Store {
  const parsed = parseUrl(url);
  if (/^file:\/\/\//i.test(url)) return openFileStore(parsed);
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
