/** Every errno that means something to us, and the rest; and what networks call their errors. */
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { Directories } from "../../src/store/file/directories.ts";
import { fileError } from "../../src/store/file/errors.ts";
import { networkError } from "../../src/store/s3/errors.ts";

const systemError = (code: string, syscall = "open"): Error =>
  Object.assign(new Error(`${code}: x`), { code, syscall });

describe("from errno to code", () => {
  test.each([
    { errno: "ENOSPC", code: "store-full", retryable: true },
    { errno: "EDQUOT", code: "store-full", retryable: true },
    { errno: "EACCES", code: "store-denied", retryable: false },
    { errno: "EPERM", code: "store-denied", retryable: false },
    { errno: "EPERM", syscall: "link", code: "store-unsupported", retryable: false },
    { errno: "EROFS", code: "store-denied", retryable: false },
    {
      errno: "ENOENT",
      code: "store-missing",
      retryable: false,
      headline: "put k: there is no directory file:///store",
    },
    { errno: "ENOTDIR", code: "store-unsupported", retryable: false },
    { errno: "EXDEV", syscall: "link", code: "store-unsupported", retryable: false },
    { errno: "EOPNOTSUPP", syscall: "link", code: "store-unsupported", retryable: false },
    { errno: "ENAMETOOLONG", code: "store-unsupported", retryable: false },
    { errno: "EINVAL", syscall: "fsync", code: "store-unsupported", retryable: false },
    { errno: "EOPNOTSUPP", syscall: "fsync", code: "store-unsupported", retryable: false },
    { errno: "EINVAL", syscall: "write", code: "store-unavailable", retryable: true },
    { errno: "EIO", syscall: "fsync", code: "store-unavailable", retryable: true },
    { errno: "EIO", syscall: "fdatasync", code: "store-unavailable", retryable: true },
    { errno: "ESTALE", code: "store-unavailable", retryable: true },
    { errno: "EMFILE", code: "store-unavailable", retryable: true },
  ])("$errno from $syscall is $code", ({ errno, syscall, code, retryable, headline }) => {
    const cause = systemError(errno, syscall);
    const error = fileError(cause, "put k", "file:///store");
    expect(error).toMatchObject({ code, retryable, cause, message: headline ?? `put k: ${errno} in file:///store` });
  });

  test("a file system that cannot make a directory durable is named, and not taken for a passing fault of a disk", async () => {
    // procfs answers as CIFS does.
    const error = await new Directories("/proc/self").sync("").catch((thrown: unknown) => thrown);
    expect(fileError(error, "put k", "file:///store")).toMatchObject({
      code: "store-unsupported",
      retryable: false,
      message: "put k: EINVAL in file:///store",
      hint: expect.stringContaining("fsync of a directory") as string,
    });
  });

  test("an error of ours passes as it is", () => {
    const error = new SeawallError("aborted", "x");
    expect(fileError(error, "put k", "file:///store")).toBe(error);
  });
});

describe("from network errors to codes", () => {
  const place = { bucket: "b", endpoint: "https://h:1" };
  test.each([
    { errno: "ECONNREFUSED", code: "store-unavailable", hint: "Nothing listens at https://h:1" },
    { errno: "ENOTFOUND", code: "store-unavailable", hint: "does not resolve" },
    { errno: "ECONNRESET", code: "store-unavailable", hint: "Check the network and the server at https://h:1" },
    { errno: "EPROTO", code: "store-unavailable", hint: "http://" },
    { errno: "CERT_HAS_EXPIRED", code: "store-denied", hint: "NODE_EXTRA_CA_CERTS" },
    { errno: "DEPTH_ZERO_SELF_SIGNED_CERT", code: "store-denied", hint: "NODE_EXTRA_CA_CERTS" },
    { errno: "UNABLE_TO_VERIFY_LEAF_SIGNATURE", code: "store-denied", hint: "NODE_EXTRA_CA_CERTS" },
    { errno: "ERR_TLS_CERT_ALTNAME_INVALID", code: "store-denied", hint: "correct the host name" },
  ])("$errno is $code", ({ errno, code, hint }) => {
    const error = networkError("put k", systemError(errno), place.endpoint);
    expect(error).toMatchObject({ code, message: `put k: ${errno} at https://h:1` });
    expect(error.hint).toContain(hint);
  });
});
