/** The right that a request needs, in IAM's words: a refusal names it. Pure. */
import type { WireRequest } from "./exchange.ts";

export interface S3Right {
  readonly action: "s3:AbortMultipartUpload" | "s3:DeleteObject" | "s3:GetObject" | "s3:ListBucket" | "s3:PutObject";
  /** The key; for a listing, the prefix. Empty for a deletion of many. */
  readonly key: string;
}

/** AWS: Service Authorization Reference, "Actions defined by Amazon S3". */
export function rightFor({ method, key, query }: Pick<WireRequest, "method" | "key" | "query">): S3Right {
  switch (method) {
    case "GET":
    case "HEAD":
      return key === "" ? { action: "s3:ListBucket", key: query?.["prefix"] ?? "" } : { action: "s3:GetObject", key };
    case "DELETE":
      return { action: query?.["uploadId"] === undefined ? "s3:DeleteObject" : "s3:AbortMultipartUpload", key };
    case "PUT":
      return { action: "s3:PutObject", key };
    case "POST":
      return { action: key === "" ? "s3:DeleteObject" : "s3:PutObject", key };
  }
}
