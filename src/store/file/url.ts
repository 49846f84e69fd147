/**
 * Store URLs of directories. A file of its own without the S3 driver, because a restore_command pays for each file that
 * it loads.
 */
import { SeawallError } from "../../errors.ts";
import { parseStoreUrl, schemeName } from "../schemes.ts";
import { FileStore } from "./store.ts";

/** Undefined for other URLs. Touches no file. Throws `usage` for what is not a URL, and for one that is not quite a path. */
export function openFileStore(url: string): FileStore | undefined {
  const parsed = parseStoreUrl(url);
  return schemeName(url) === "file" ? new FileStore(pathOf(parsed)) : undefined;
}

/** The directory that a file URL names. Throws `usage`. */
export function pathOfFileUrl(url: string): string {
  return pathOf(parseStoreUrl(url));
}

function pathOf(url: URL): string {
  if (url.host !== "" || url.search !== "" || url.hash !== "" || url.username !== "") {
    throw new SeawallError("usage", "a file store is a path and nothing else: file:///absolute/path", {
      hint: "Mind the three slashes; write special characters as %20, %23, %25, %3F.",
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
  if (!path.includes("\0")) return path;
  throw new SeawallError("usage", `the store's path ${pathname} is not a valid path`, {
    hint: "Write a percent sign as %25, and every other character with % and two hexadecimal digits of UTF-8.",
  });
}
