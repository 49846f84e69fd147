/**
 * Translates `sslmode` and its companions for Node's TLS: which attempts to make, and with which options.
 *
 * Source: PostgreSQL docs "SSL Support" (libpq), table "SSL Mode Descriptions"; fe-secure-openssl.c, initialize_SSL.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity, type ConnectionOptions, createSecureContext, rootCertificates } from "node:tls";
import { messageOf, SeawallError } from "../errors.ts";
import { type ConnectionSettings, type HostTarget, isSocketFolder, type SslMode } from "./settings.ts";

export type Encryption = "tls" | "plain";

/** In which order to try with and without TLS (docs: Table "SSL Mode Descriptions"); never TLS over a Unix socket. */
export function encryptionOrder(mode: SslMode, target: HostTarget): readonly Encryption[] {
  if (isSocketFolder(target.host) || (target.host === "" && target.hostaddr === undefined)) return ["plain"];
  switch (mode) {
    case "disable":
      return ["plain"];
    case "allow":
      return ["plain", "tls"];
    case "prefer":
      return ["tls", "plain"];
    case "require":
    case "verify-ca":
    case "verify-full":
      return ["tls"];
  }
}

/** Certificate files, read and checked: everything about TLS that is the same for each host. */
export interface TlsMaterial {
  readonly options: ConnectionOptions;
  readonly verify: "none" | "ca" | "full";
}

/**
 * Reads the certificate files, anew for each connect as they are renewed in place.
 * Throws `usage` when a named file is missing, unreadable, too open, or no PEM.
 */
export function loadTlsMaterial(settings: ConnectionSettings): TlsMaterial {
  const { tls } = settings.values;
  const root = rootCertificate(settings);
  // As libpq: a root certificate that is there is used even by sslmode=require.
  const verify =
    tls.mode === "verify-full" ? "full" : tls.mode === "verify-ca" || (tls.mode === "require" && root) ? "ca" : "none";
  const crl = verify === "none" ? undefined : readPem(tls.crl, "sslcrl");
  if (typeof root === "string") refuseNoCertificate(root, "sslrootcert");
  const options: ConnectionOptions = {
    minVersion: tls.minVersion,
    ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion }),
    rejectUnauthorized: verify !== "none",
    ...(root === undefined ? {} : { ca: root }),
    ...(crl === undefined ? {} : { crl }),
    ...clientCertificate(settings),
  };
  try {
    createSecureContext(options);
  } catch (cause) {
    throw doesNotLoad("the TLS files", cause);
  }
  return { options, verify };
}

/** Options for one host: whose certificate is expected, and under which name (SNI) to ask for it. */
export function tlsOptionsFor(
  material: TlsMaterial,
  settings: ConnectionSettings,
  target: HostTarget,
): ConnectionOptions {
  const { host } = target;
  if (material.verify === "full" && host === "") {
    throw new SeawallError("usage", "host name must be specified for a verified TLS connection", {
      hint: "Add host=… beside hostaddr=…; it is the name in the certificate.",
    });
  }
  const sni = settings.values.tls.sni && host !== "" && isIP(host) === 0 ? { servername: host } : {};
  return {
    ...material.options,
    ...sni,
    checkServerIdentity: (_name, certificate) =>
      material.verify === "full" ? checkServerIdentity(host, certificate) : undefined,
  };
}

function rootCertificate(settings: ConnectionSettings): string | string[] | undefined {
  const { rootCert, mode } = settings.values.tls;
  if (rootCert === "system") return systemRoots(settings.values.tls.systemRootFile);
  const verifies = mode === "verify-ca" || mode === "verify-full";
  const text = verifies || mode === "require" ? readPem(rootCert, "sslrootcert") : undefined;
  if (text === undefined && verifies) {
    throw new SeawallError(
      "usage",
      `root certificate file "${rootCert?.path ?? "~/.postgresql/root.crt"}" is missing`,
      {
        hint: "Name the CA's certificate with sslrootcert=…, use sslrootcert=system, or a weaker sslmode.",
      },
    );
  }
  return text;
}

/** OpenSSL passes over what it cannot read in a bundle, and would then trust no certificate without saying why. */
function refuseNoCertificate(text: string, keyword: string): void {
  try {
    new X509Certificate(text);
  } catch (cause) {
    throw doesNotLoad(`the ${keyword} file`, cause);
  }
}

function doesNotLoad(what: string, cause: unknown): SeawallError {
  const why = messageOf(cause);
  return new SeawallError("usage", `${what} do${what.endsWith("s") ? "" : "es"} not load: ${why}`, {
    cause,
    hint: "Check sslrootcert, sslcert, sslkey, sslpassword and sslcrl: PEM files that belong together.",
  });
}

/** The bundle that OpenSSL's environment names, or Linux's; else Mozilla's, which Node.js carries. */
function systemRoots(named: string | undefined): string | string[] {
  const places = [named, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
  for (const path of places) {
    if (path === undefined || path === "") continue;
    try {
      return readFileSync(path, "utf8");
    } catch {
      // The next place.
    }
  }
  return [...rootCertificates];
}

function clientCertificate(settings: ConnectionSettings): ConnectionOptions {
  const { certMode, cert, key } = settings.values.tls;
  if (certMode === "disable") return {};
  const certText = readPem(cert, "sslcert");
  if (certText === undefined) {
    if (certMode !== "require") return {};
    throw new SeawallError("usage", "sslcertmode=require, but there is no client certificate", {
      hint: "Name it with sslcert=… and its key with sslkey=….",
    });
  }
  const keyText = readPem(key, "sslkey", true);
  if (key !== undefined) refuseOpenKey(key.path);
  const passphrase = settings.sslPassword;
  return { cert: certText, key: keyText, ...(passphrase === undefined ? {} : { passphrase }) };
}

/** A private key must be readable by its owner alone, or by root's group if root owns it (fe-secure-openssl.c). */
function refuseOpenKey(path: string): void {
  const stat = statSync(path);
  const allowed = stat.uid === 0 ? 0o640 : 0o600;
  if ((stat.mode & 0o777 & ~allowed) === 0) return;
  throw new SeawallError("usage", `private key file "${path}" has group or world access`, {
    hint: `chmod 600 ${path}`,
  });
}

function readPem(
  file: { readonly path: string; readonly explicit: boolean } | undefined,
  keyword: string,
  needed = false,
): string | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file.path, "utf8");
  } catch (cause) {
    if (!file.explicit && !needed) return undefined;
    throw new SeawallError("usage", `could not read ${keyword} file "${file.path}": ${(cause as Error).message}`, {
      cause,
      hint: `Correct ${keyword}=… or the permissions of the file.`,
    });
  }
}
