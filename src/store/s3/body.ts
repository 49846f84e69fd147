/** Parameters that go with a body to S3: checksums, encryption, storage class; and the checksum that comes back. */
import { createHash } from "node:crypto";
import type { GetObjectCommandOutput, PutObjectCommandInput } from "@aws-sdk/client-s3";
import { HttpRequest } from "@smithy/core/protocols";
import type { BuildHandler, MetadataBearer } from "@smithy/types";
import { SeawallError } from "../../errors.ts";
import { crc32cBase64 } from "../crc.ts";
import { digest } from "./strict.ts";
import { type S3Settings } from "./url.ts";

/** `crc` is the body's CRC-32C. */
export async function checksumInput(
  body: Uint8Array,
  crc: number,
  { checksum }: Pick<S3Settings, "checksum">,
): Promise<Pick<PutObjectCommandInput, "ChecksumCRC32C" | "ContentMD5">> {
  if (checksum === "crc32c") return { ChecksumCRC32C: crc32cBase64(crc) };
  return checksum === "md5" ? { ContentMD5: (await digest("md5", body)).toString("base64") } : {};
}

/** Parameters of every creation of an object; parts of an upload do not carry them. */
export function createInput(
  settings: S3Settings,
): Pick<PutObjectCommandInput, "ServerSideEncryption" | "SSEKMSKeyId" | "StorageClass"> {
  return {
    ...(settings.sse === undefined ? {} : { ServerSideEncryption: settings.sse }),
    ...(settings.kmsKeyId === undefined ? {} : { SSEKMSKeyId: settings.kmsKeyId }),
    // A cast: servers have classes of their own beside Amazon's.
    ...(settings.storageClass === undefined
      ? {}
      : { StorageClass: settings.storageClass as NonNullable<PutObjectCommandInput["StorageClass"]> }),
  };
}

export function withHeader(name: string, value: string) {
  return <Input extends object, Output extends MetadataBearer>(
      next: BuildHandler<Input, Output>,
    ): BuildHandler<Input, Output> =>
    (args) => {
      if (HttpRequest.isInstance(args.request)) args.request.headers[name] = value;
      return next(args);
    };
}

/** DeleteObjects with Content-MD5, which every server knows, in place of the SDK's CRC-32. */
export const withContentMd5 =
  <Input extends object, Output extends MetadataBearer>(
    next: BuildHandler<Input, Output>,
  ): BuildHandler<Input, Output> =>
  (args) => {
    const { request } = args;
    if (HttpRequest.isInstance(request)) {
      delete request.headers["x-amz-checksum-crc32"];
      delete request.headers["x-amz-sdk-checksum-algorithm"];
      request.headers["content-md5"] = createHash("md5").update(String(request.body)).digest("base64");
    }
    return next(args);
  };

/** Throws `store-checksum` when the server names another CRC-32C for the whole object than ours. */
export function checkEcho(what: string, theirs: string | undefined, crc: number): void {
  // A checksum of checksums ends with "-" and the number of parts; it says nothing about the whole.
  if (theirs === undefined || theirs.includes("-") || theirs === crc32cBase64(crc)) return;
  throw new SeawallError("store-checksum", `${what}: the store's CRC-32C is ${theirs}, ours ${crc32cBase64(crc)}`);
}

/** The body of an answer that was read whole: one buffer, which the SDK hands on as a stream. */
export async function wholeBody({ Body }: GetObjectCommandOutput): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of Body as AsyncIterable<Uint8Array>) pieces.push(piece);
  return pieces.length === 1 ? (pieces[0] ?? new Uint8Array(0)) : Buffer.concat(pieces);
}
