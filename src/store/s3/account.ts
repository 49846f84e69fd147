/**
 * Opens the SDK's client for a store: endpoint, region and credentials by the SDK's own rules, as for every other AWS tool
 * (profiles, SSO, web identity, containers, instance metadata, FIPS and dual-stack endpoints, partitions).
 *
 * The store's environment goes first: it is the process's own outside of tests. The SDK's retries are off, because
 * store/retry.ts repeats whole operations.
 */
import { S3Client } from "@aws-sdk/client-s3";
import type { AwsCredentialIdentity } from "@smithy/types";
import { SeawallError } from "../../errors.ts";
import { waitFor } from "../signal.ts";
import { DeadlineHandler } from "./handler.ts";
import { makeStrict } from "./strict.ts";
import { type S3Settings } from "./url.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A source of credentials asks several services in turn, so it is given as long as a request, twice. */
const CREDENTIALS_FACTOR = 2;
/** For servers that do not check the region. */
const DEFAULT_REGION = "us-east-1";
/** The client hands it on to the providers of credentials, which then read files again. Its own type does not name it. */
const REREAD_FILES = { ignoreCache: true };

export interface S3Account {
  readonly client: S3Client;
  readonly handler: DeadlineHandler;
  /** The environment gave the credentials, so that no others can be had when the server says that these have run out. */
  readonly isFixed: boolean;
  close(): void;
}

/** Sends nothing to the bucket. Rejects with `usage` when the environment or the URL is unusable. */
export async function openAccount(settings: S3Settings, env: Environment): Promise<S3Account> {
  if (settings.bucket.endsWith("--x-s3")) {
    throw new SeawallError(
      "store-unsupported",
      `the bucket ${settings.bucket} is a directory bucket, which lists without order`,
      {
        hint: "Use a general purpose bucket.",
      },
    );
  }
  const endpoint = settings.endpoint ?? endpointFromEnvironment(env);
  const region = settings.region ?? regionFromEnvironment(env) ?? (endpoint === undefined ? undefined : DEFAULT_REGION);
  const fixed = credentialsFromEnvironment(settings, env);
  const handler = new DeadlineHandler(settings.requestTimeoutMs);
  const client = new S3Client({
    requestHandler: handler,
    maxAttempts: 1,
    customUserAgent: "seawall",
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // Without a wait for 100 Continue: a refusal that comes early ends the request as well (exchange.ts).
    expectContinueHeader: false,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.href }),
    ...(settings.profile === undefined ? {} : { profile: settings.profile }),
    ...(fixed === undefined ? {} : { credentials: fixed }),
    ...REREAD_FILES,
    forcePathStyle: settings.pathStyle ?? endpoint !== undefined,
  });
  if (fixed === undefined) guardCredentials(client, settings);
  makeStrict(client, settings.checksum);
  try {
    await client.config.region();
  } catch (cause) {
    throw new SeawallError("usage", `no region for the bucket ${settings.bucket}`, {
      cause,
      hint: "Add region=… to the store's URL or set AWS_REGION.",
    });
  }
  return {
    client,
    handler,
    isFixed: fixed !== undefined,
    close: () => {
      handler.destroy();
      client.destroy();
    },
  };
}

function credentialsFromEnvironment(settings: S3Settings, env: Environment): AwsCredentialIdentity | undefined {
  if (settings.profile !== undefined || isSet(env["AWS_PROFILE"])) return undefined;
  const accessKeyId = env["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = env["AWS_SECRET_ACCESS_KEY"];
  if (!isSet(accessKeyId) || !isSet(secretAccessKey)) return undefined;
  const sessionToken = env["AWS_SESSION_TOKEN"];
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) refuseUnprintable(name, env);
  return { accessKeyId, secretAccessKey, ...(isSet(sessionToken) ? { sessionToken } : {}) };
}

/** A key read from a file often ends with a line break, which no header may have and no signature matches. */
function refuseUnprintable(name: string, env: Environment): void {
  if (/^[\x21-\x7e]*$/.test(env[name] ?? "")) return;
  throw new SeawallError("usage", `${name} contains a line break, a space or another character that no key has`, {
    hint: `Set ${name} again without it; in a shell, $(cat file) leaves line breaks at the end out.`,
  });
}

/** Puts a deadline around the SDK's source of credentials, which may be a service or a command that hangs. */
function guardCredentials(client: S3Client, settings: S3Settings): void {
  const ask = client.config.credentials;
  const timeoutMs = CREDENTIALS_FACTOR * settings.requestTimeoutMs;
  const late = (): SeawallError => credentialsLate(settings.bucket, timeoutMs);
  let hadCredentials = false;
  client.config.credentials = async (options) => {
    try {
      const found = await waitFor(ask(options), { signals: [], timeoutMs, late });
      hadCredentials = true;
      return found;
    } catch (cause) {
      throw credentialsError(cause, settings, hadCredentials);
    }
  };
}

/** The error for a source of credentials that does not answer. */
function credentialsLate(bucket: string, timeoutMs: number): SeawallError {
  const message = `the bucket ${bucket}: the source of credentials is silent for ${timeoutMs} ms`;
  return new SeawallError("store-unavailable", message, {
    hint: "Check the service or command that gives them: web identity, container endpoint, credential_process, instance role.",
  });
}

/** `hadCredentials`: the source has given some before, so it exists and fails for a while. */
function credentialsError(cause: unknown, settings: S3Settings, hadCredentials: boolean): SeawallError {
  if (cause instanceof SeawallError) return cause;
  if (hadCredentials || isPassing(cause)) {
    return new SeawallError("store-unavailable", `the source of credentials for the bucket ${settings.bucket} fails`, {
      cause,
      hint: "Check the service, file or command that gives them (web identity, container, profile); Seawall keeps trying.",
    });
  }
  return new SeawallError("store-denied", `no credentials for the bucket ${settings.bucket}`, {
    cause,
    hint: "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, add profile=… to the store's URL, or give this machine a role.",
  });
}

/** The SDK reads these from the process's environment: a service is named, so its silence is not "no credentials". */
const NAMED_SERVICES = [
  "AWS_CONTAINER_CREDENTIALS_FULL_URI",
  "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
  "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/** True for a failure of a source that exists: anything but a refusal, and but the finding that there is no source. */
function isPassing(cause: unknown): boolean {
  if (!(cause instanceof Error)) return false;
  // A service of AWS that answered, such as STS; a cast, as its errors are typed per service.
  const status = (cause as { readonly $metadata?: { readonly httpStatusCode?: number } }).$metadata?.httpStatusCode;
  if (status !== undefined) return status >= 500 || status === 408 || status === 429;
  if (cause.name !== "CredentialsProviderError") return true;
  return NAMED_SERVICES.some((name) => isSet(process.env[name]));
}

function endpointFromEnvironment(env: Environment): URL | undefined {
  if (env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] === "true") return undefined;
  const text = isSet(env["AWS_ENDPOINT_URL_S3"]) ? env["AWS_ENDPOINT_URL_S3"] : env["AWS_ENDPOINT_URL"];
  if (!isSet(text)) return undefined;
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new SeawallError("usage", "AWS_ENDPOINT_URL is not an HTTP(S) URL", {
      hint: "It looks like https://host:port.",
    });
  }
  return new URL(text);
}

function regionFromEnvironment(env: Environment): string | undefined {
  return [env["AWS_REGION"], env["AWS_DEFAULT_REGION"]].find(isSet);
}

function isSet(text: string | undefined): text is string {
  return text !== undefined && text !== "";
}
