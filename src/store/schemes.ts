/**
 * The schemes of store URLs, in one table: what the rest of Seawall must know of a store before its driver is loaded. No
 * driver is imported here, because the configuration reads this. open.ts has the drivers.
 */
import { SeawallError } from "../errors.ts";

export interface StoreScheme {
  /** A URL as help and hints show it. */
  readonly form: string;
  /** Sentences for the reference on what such a URL takes. */
  readonly more: string;
  /** The driver works through the file system, whose calls may hang and cannot be cancelled. */
  readonly usesFiles: boolean;
  /** Environment variables from which the driver takes credentials and defaults. A server's restore_command needs them. */
  readonly environment: readonly string[];
  /** Finds a form that a URL of this scheme must not have, and says what to write instead. */
  readonly malformed?: (url: string) => { readonly problem: string; readonly hint: string } | undefined;
}

const SCHEMES = {
  s3: {
    form: "s3://bucket/prefix?endpoint=…&region=…",
    more: "An S3 URL takes `endpoint` (of a server that is not Amazon's), `region`, `profile`, `pathStyle` (true or false), `sse` (`AES256` or `aws:kms`) with `kmsKeyId`, `storageClass`, `checksum` (`crc32c`, the default, `sha256`, `md5` or `none`) and `requestTimeoutMs` (15000). Credentials are looked for where the AWS SDK looks: environment, shared files and profile, web identity, container and instance role. The bucket must exist.",
    usesFiles: false,
    environment: [
      "AWS_ACCESS_KEY_ID",
      "AWS_SECRET_ACCESS_KEY",
      "AWS_SESSION_TOKEN",
      "AWS_PROFILE",
      "AWS_REGION",
      "AWS_DEFAULT_REGION",
      "AWS_SHARED_CREDENTIALS_FILE",
      "AWS_CONFIG_FILE",
    ],
  },
  file: {
    form: "file:///absolute/path",
    more: "The directory of a file URL must exist.",
    usesFiles: true,
    environment: [],
    malformed: (url) =>
      /^file:\/\/($|[^/])/i.test(url)
        ? { problem: "is not an absolute path", hint: "Write file:///absolute/path with three slashes." }
        : undefined,
  },
} as const satisfies Record<string, StoreScheme>;

export type SchemeName = keyof typeof SCHEMES;

const schemes: Readonly<Record<string, StoreScheme>> = SCHEMES;

export const STORE_URL_FORMS = Object.values(schemes)
  .map(({ form }) => form)
  .join(" or ");
export const STORE_URL_HINT = `A store is ${STORE_URL_FORMS}.`;
/** For the reference: what the URLs of all schemes take. */
export const STORE_URL_HELP = Object.values(schemes)
  .map(({ more }) => more)
  .join(" ");

/** Undefined for a text that begins with none of the schemes. */
export function schemeName(url: string): SchemeName | undefined {
  const name = /^([a-z0-9]+):\/\//i.exec(url)?.[1]?.toLowerCase() ?? "";
  // A cast: the table has just been asked for it.
  return Object.hasOwn(schemes, name) ? (name as SchemeName) : undefined;
}

export function schemeOf(url: string): StoreScheme | undefined {
  const name = schemeName(url);
  return name === undefined ? undefined : schemes[name];
}

/** Throws `usage`. */
export function parseStoreUrl(url: string): URL {
  try {
    return new URL(url);
  } catch {
    // Without the cause: it quotes the whole text.
    throw new SeawallError("usage", "the store is not a URL", { hint: STORE_URL_HINT });
  }
}
