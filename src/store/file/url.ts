/** Store URLs of directories. By itself, because a restore_command pays for each file it loads: without the S3 driver. */
import { SeawallError } from "../../errors.ts";
import { FileStore } from "./store.ts";

export const STORE_URL_HINT = "A store is file:///absolute/path or s3://bucket/prefix?endpoint=…&region=…";

/** Undefined for other URLs. Touches no file. Throws `usage` for what is not a URL, and for one that is not quite a path. */
export function openFileStore(url: string): FileStore | undefined {
  const parsed = parseUrl(url);
  return /^file:\/\//i.test(url) ? new FileStore(pathOf(parsed)) : undefined;
}

export function parseUrl(url: string): URL {
  try {
    return new URL(url);
  } catch {
    // Without the cause: it quotes the whole text.
    throw new SeawallError("usage", "the store is not a URL", { hint: STORE_URL_HINT });
  }
}

function pathOf(url: URL): string {
  if (url.host !== "" || url.search !== "" || url.hash !== "" || url.username !== "") {
    throw new SeawallError("usage", "a file store is a path and nothing else: file:///absolute/path", {
      hint: "Mind the three slashes; write special characters as %20, %23, %3F.",
    });
  }
  return decodePath(url.pathname);
}

function decodePath(pathname: string): string {
  let path = "\0";
  try {
    path = decodeURIComponent(pathname);
  } catch {
    // Reported below, like a zero byte: neither can be a path.
  }
  if (path.includes("\0"))
    throw new SeawallError("usage", "the store's path is not a valid path", { hint: STORE_URL_HINT });
  return path;
}
