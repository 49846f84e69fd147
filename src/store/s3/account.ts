/**
 * Finds the account and the place of the bucket: endpoint, region and credentials, by the rules of the AWS SDK.
 *
 * Where the URL and the environment say it all, nothing else is asked. Otherwise the SDK decides, as for every other AWS
 * tool: profiles, SSO, web identity, containers, instance metadata, FIPS and dual-stack endpoints, partitions. It is
 * loaded only then: importing it costs more than a whole `restore_command` may.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { SeawallError } from "../../errors.ts";
import { type S3Credentials, type SigningScope } from "./sign.ts";
import { type S3Settings } from "./url.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface S3Account {
  /** Scheme, host and port every request goes to. */
  readonly origin: URL;
  /** The path before the key: `/`, `/bucket/`, or with the endpoint's own path before it. */
  readonly pathBase: string;
  readonly scope: SigningScope;
  /** Given as they are, so that no others can be had when the server says that these have run out. */
  readonly isFixed: boolean;
  /** Renewed before they run out; `renew` asks for others now, because the server said that these have. */
  credentials(options?: { readonly renew: boolean }): Promise<S3Credentials>;
}

/** Regions whose endpoints need no table: the others live in partitions of their own, which the SDK knows. */
const COMMERCIAL_REGION = /^(?:us|eu|ap|sa|ca|me|af|il|mx)-(?:[a-z]+)-\d$/;
const DEFAULT_REGION = "us-east-1";

/** Rejects with `store-denied` when no credentials are found. */
export async function resolveAccount(settings: S3Settings, env: Environment): Promise<S3Account> {
  return accountWithoutSdk(settings, env) ?? (await accountFromSdk(settings, env));
}

/** Exported for tests. */
export function accountWithoutSdk(settings: S3Settings, env: Environment): S3Account | undefined {
  if (settings.profile !== undefined || isSet(env["AWS_PROFILE"])) return undefined;
  const accessKeyId = env["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = env["AWS_SECRET_ACCESS_KEY"];
  if (!isSet(accessKeyId) || !isSet(secretAccessKey)) return undefined;
  const sessionToken = isSet(env["AWS_SESSION_TOKEN"]) ? env["AWS_SESSION_TOKEN"] : undefined;
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) refuseUnprintable(name, env);
  const credentials: S3Credentials = { accessKeyId, secretAccessKey, sessionToken };
  const place = placeWithoutSdk(settings, env);
  if (place === undefined) return undefined;
  return { ...place, isFixed: true, credentials: () => Promise.resolve(credentials) };
}

/** A key read from a file often ends with a line break, which no header may have and no signature matches. */
function refuseUnprintable(name: string, env: Environment): void {
  if (/^[\x21-\x7e]*$/.test(env[name] ?? "")) return;
  throw new SeawallError("usage", `${name} contains a line break, a space or another character that no key has`, {
    hint: `Set ${name} again without it; in a shell, $(cat file) leaves line breaks at the end out.`,
  });
}

function placeWithoutSdk(
  settings: S3Settings,
  env: Environment,
): Pick<S3Account, "origin" | "pathBase" | "scope"> | undefined {
  const endpoint = settings.endpoint ?? endpointFromEnvironment(env);
  const region = settings.region ?? regionFromEnvironment(env);
  if (endpoint !== undefined) {
    const scope = { region: region ?? DEFAULT_REGION, service: "s3" };
    return { ...address(endpoint, settings.bucket, settings.pathStyle ?? true), scope };
  }
  // A configuration file may name an endpoint or a region, and these switches another host: the SDK reads them.
  if (region === undefined || !COMMERCIAL_REGION.test(region) || hasConfigFile(env)) return undefined;
  if (isSet(env["AWS_USE_FIPS_ENDPOINT"]) || isSet(env["AWS_USE_DUALSTACK_ENDPOINT"])) return undefined;
  const pathStyle = settings.pathStyle ?? !isHostLabel(settings.bucket);
  const host = new URL(`https://s3.${region}.amazonaws.com`);
  return { ...address(host, settings.bucket, pathStyle), scope: { region, service: "s3" } };
}

interface SignedRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The SDK is asked where it would send a GET, and answers with the request it would have sent. Exported for tests. */
export async function accountFromSdk(settings: S3Settings, env: Environment): Promise<S3Account> {
  // The SDK's note on Node.js versions would land between our log lines; package.json says which ones we support.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const { GetObjectCommand, S3Client } = await import("@aws-sdk/client-s3");
  const endpoint = settings.endpoint ?? endpointFromEnvironment(env);
  const region = settings.region ?? regionFromEnvironment(env) ?? (endpoint === undefined ? undefined : DEFAULT_REGION);
  const client = new S3Client({
    maxAttempts: 1,
    // Handed on to the providers: files are read again when credentials are renewed.
    ...{ ignoreCache: true },
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.href }),
    ...(settings.profile === undefined ? {} : { profile: settings.profile }),
    forcePathStyle: settings.pathStyle ?? endpoint !== undefined,
  });
  let sent: SignedRequest | undefined;
  // The last step before the socket. A request handler of ours would also be used for the credentials' own requests.
  const intercept = (): ((args: { request: unknown }) => Promise<never>) => (args) => {
    sent = args.request as SignedRequest; // The SDK types it unknown: it is what its own HTTP handler would be given.
    return Promise.reject(new Error("asked, not sent"));
  };
  client.middlewareStack.add(intercept, { step: "deserialize", name: "seawallIntercept" });
  const answer = await client
    .send(new GetObjectCommand({ Bucket: settings.bucket, Key: "k" }))
    .catch((error: unknown) => error);
  if (sent === undefined) throw accountError(answer, settings, false);
  const scope = /Credential=[^/]+\/\d{8}\/([^/]+)\/([^/]+)\//.exec(sent.headers["authorization"] ?? "");
  if (scope?.[1] === undefined || scope[2] === undefined || !sent.path.endsWith("/k")) {
    throw new SeawallError("store-unsupported", `the bucket ${settings.bucket} needs another signature than SigV4`, {
      hint: "Directory buckets and multi-region access points are not supported: use a general purpose bucket.",
    });
  }
  const port = sent.port === undefined ? "" : `:${sent.port}`;
  return {
    origin: new URL(`${sent.protocol}//${sent.hostname}${port}`),
    pathBase: sent.path.slice(0, -1),
    scope: { region: scope[1], service: scope[2] },
    isFixed: false,
    credentials: ({ renew } = { renew: false }) =>
      client.config
        .credentials({ forceRefresh: renew })
        .catch((cause: unknown) => Promise.reject(accountError(cause, settings, true))),
  };
}

/** `hadCredentials`: the source has given some before, so it exists and fails for a while. */
function accountError(cause: unknown, settings: S3Settings, hadCredentials: boolean): SeawallError {
  if (cause instanceof Error && /region is missing/i.test(cause.message)) {
    return new SeawallError("usage", `no region for the bucket ${settings.bucket}`, {
      cause,
      hint: "Add region=… to the store's URL or set AWS_REGION.",
    });
  }
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

function address(endpoint: URL, bucket: string, pathStyle: boolean): Pick<S3Account, "origin" | "pathBase"> {
  const base = endpoint.pathname.replace(/\/*$/, "/");
  if (pathStyle) return { origin: new URL(endpoint.origin), pathBase: `${base}${bucket}/` };
  const origin = new URL(endpoint.origin);
  origin.hostname = `${bucket}.${origin.hostname}`;
  return { origin, pathBase: base };
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

function hasConfigFile(env: Environment): boolean {
  return existsSync(env["AWS_CONFIG_FILE"] ?? join(env["HOME"] ?? homedir(), ".aws", "config"));
}

/** A bucket with dots or capitals does not fit the wildcard in the certificate or the host name. */
function isHostLabel(bucket: string): boolean {
  return /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(bucket);
}

function isSet(text: string | undefined): text is string {
  return text !== undefined && text !== "";
}
