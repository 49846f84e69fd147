/** The error tables for what cannot be provoked from a real server here: other languages, other versions' words. */
import { describe, expect, it } from "vitest";
import { type ErrorCode, ERROR_KINDS } from "../../src/error-kinds.ts";
import { type ErrorContext, fromServer, fromSocket, type ServerErrorFields } from "../../src/replication/errors.ts";

const context: ErrorContext = {
  user: "me",
  server: "h:5432",
  replication: true,
  slot: "seawall",
  database: "postgres",
};

describe("a server's error", () => {
  it.each<[string, ServerErrorFields, ErrorCode]>([
    [
      "in German: no pg_hba.conf entry",
      {
        code: "28000",
        routine: "ClientAuthentication",
        message: "kein pg_hba.conf-Eintrag für Replikationsverbindung",
      },
      "server-hba",
    ],
    [
      "in German: no REPLICATION attribute",
      { code: "42501", routine: "InitPostgres", message: "keine Berechtigung, um WAL-Sender zu starten" },
      "server-no-replication-role",
    ],
    [
      "in German: wrong password",
      { code: "28P01", routine: "auth_failed", message: "Passwort-Authentifizierung" },
      "server-auth",
    ],
    [
      "in French: slot in use",
      { code: "55006", routine: "ReplicationSlotAcquire", message: "le slot est actif pour le PID 42" },
      "slot-active",
    ],
    [
      "in French: no such slot",
      { code: "42704", routine: "ReplicationSlotAcquire", message: "le slot n'existe pas" },
      "slot-missing",
    ],
    [
      "in French: slot exists",
      { code: "42710", routine: "ReplicationSlotCreate", message: "le slot existe déjà" },
      "slot-exists",
    ],
    [
      "in French: no slot left",
      { code: "53400", routine: "ReplicationSlotCreate", message: "tous les slots" },
      "slots-full",
    ],
    [
      "a file that the server may not read",
      { code: "42501", routine: "sendFile", message: 'could not open file "./base/5/16384": Permission denied' },
      "server-error",
    ],
    ["starting up", { code: "57P03", message: "the database system is starting up" }, "server-starting"],
    ["shutting down", { code: "57P03", message: "the database system is shutting down" }, "server-starting"],
    [
      "ended by an administrator",
      { code: "57P01", message: "terminating connection due to administrator command" },
      "server-lost",
    ],
    [
      "ended by another process's crash",
      { code: "57P02", message: "terminating connection because of crash" },
      "server-lost",
    ],
    [
      "ended for being idle",
      { code: "57P05", message: "terminating connection due to idle-session timeout" },
      "server-lost",
    ],
    [
      "a conflict with recovery",
      { code: "40001", message: "terminating connection due to conflict with recovery" },
      "server-busy",
    ],
    ["a full disk", { code: "53100", message: "could not extend file" }, "server-busy"],
    ["an I/O error", { code: "58030", message: "could not read from WAL segment" }, "server-busy"],
    [
      "an invalidated slot, as 18 says it",
      { code: "55000", message: 'can no longer access replication slot "seawall"', detail: '…due to "wal_removed".' },
      "slot-invalidated",
    ],
    [
      "an invalidated slot, as 13 to 17 say it",
      { code: "55000", message: 'cannot read from invalidated replication slot "s"' },
      "slot-invalidated",
    ],
    [
      "an invalidated slot, as decoding says it",
      { code: "55000", message: 'can no longer get changes from replication slot "s"' },
      "slot-invalidated",
    ],
    [
      "a client certificate",
      { code: "28000", routine: "ClientAuthentication", message: "connection requires a valid client certificate" },
      "server-tls",
    ],
    ["anything else", { code: "42601", message: "syntax error" }, "server-error"],
    ["no SQLSTATE at all", { message: "what" }, "server-error"],
  ])("%s", (_name, fields, code) => {
    const error = fromServer(fields, context);
    expect(error.code).toBe(code);
    expect(error.message).toContain(fields.message);
    expect(error.hint).not.toBe("");
    expect(error.retryable).toBe(ERROR_KINDS[code].retryable);
  });

  it("about a slot in use names the process whatever the language", () => {
    const fields = { code: "55006", message: "le slot est actif pour le PID 42" };
    expect(fromServer(fields, context).hint).toContain("pg_terminate_backend(42)");
  });

  it("about pg_hba.conf gives the line for the kind of connection", () => {
    const hint = (message: string, more: Partial<ErrorContext> = {}) =>
      fromServer({ code: "28000", routine: "ClientAuthentication", message }, { ...context, ...more }).hint;
    expect(hint('no entry for host "10.0.0.7", user "me", no encryption')).toContain("host replication me 10.0.0.7/32");
    expect(hint('no entry for host "2001:db8::1", user "me"')).toContain("host replication me 2001:db8::1/128");
    expect(hint('no entry for host "[local]", user "me"')).toContain("local replication me scram-sha-256");
    expect(hint('no entry for host "10.0.0.7"', { replication: false })).toContain("host postgres me 10.0.0.7/32");
    expect(hint('host "10.0.0.7", no encryption')).toContain("sslmode=require");
  });
});

describe("a socket's error", () => {
  const withCode = (code: string, message = code): Error => Object.assign(new Error(message), { code });

  it.each<[string, Error, ErrorCode, RegExp]>([
    ["a refused connection", withCode("ECONNREFUSED"), "server-unreachable", /connection refused/],
    ["an unknown host", withCode("ENOTFOUND"), "server-unreachable", /host name not found/],
    ["a lookup that may pass", withCode("EAI_AGAIN"), "server-unreachable", /lookup failed for now/],
    ["a missing socket", withCode("ENOENT"), "server-unreachable", /no such Unix socket/],
    ["an unreachable network", withCode("ENETUNREACH"), "server-unreachable", /network unreachable/],
    ["a self-signed certificate", withCode("DEPTH_ZERO_SELF_SIGNED_CERT"), "server-tls", /does not verify/],
    ["an unknown issuer", withCode("UNABLE_TO_GET_ISSUER_CERT_LOCALLY"), "server-tls", /does not verify/],
    ["an expired certificate", withCode("CERT_HAS_EXPIRED"), "server-tls", /has expired/],
    ["another name", withCode("ERR_TLS_CERT_ALTNAME_INVALID"), "server-tls", /for another host name/],
    [
      "a protocol both sides do not share",
      withCode("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION"),
      "server-tls",
      /handshake failed/,
    ],
    ["TLS refused", new Error("The server does not support SSL connections"), "server-tls", /does not support TLS/],
    [
      "a SCRAM mismatch",
      new Error("SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature does not match"),
      "server-auth",
      /signature/,
    ],
    [
      "a connection closed at once",
      new Error("Connection terminated unexpectedly"),
      "server-unreachable",
      /closed the connection/,
    ],
    ["anything else", new Error("weird"), "server-unreachable", /weird/],
  ])("%s", (_name, cause, code, message) => {
    const error = fromSocket(cause, context);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.message.startsWith("h:5432: ")).toBe(true);
    expect(error.cause).toBe(cause);
  });
});
