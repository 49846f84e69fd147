/** The role's SQL, the lines of pg_hba.conf, and the written forms of connection strings and password files, without a server. */
import { describe, expect, it, test } from "vitest";
import { hbaFile } from "../../src/cli/init/files.ts";
import { formatConninfo, parseConninfoText } from "../../src/replication/conninfo-text.ts";
import { findPassword, passfileLine } from "../../src/replication/passfile.ts";
import { scramVerifier } from "../../src/replication/scram-verifier.ts";
import { type HbaClient, hbaLine, roleScript, singleAddress } from "../../src/replication/server-setup.ts";

describe("a line of pg_hba.conf", () => {
  const address = { kind: "address", address: "10.0.0.5/32" } as const;
  const rows: readonly (readonly [string, string, HbaClient, string])[] = [
    ["seawall", "replication", { ...address, tls: true }, "hostssl replication seawall 10.0.0.5/32 scram-sha-256"],
    ["seawall", "postgres", { ...address, tls: false }, "host postgres seawall 10.0.0.5/32 scram-sha-256"],
    ["Sea wall", "My db", { kind: "local", method: "peer" }, 'local "My db" "Sea wall" peer'],
  ];
  it.each(rows)("for %s on %s", (user, database, client, line) => expect(hbaLine(user, database, client)).toBe(line));

  it.each([
    ["10.0.0.5", "10.0.0.5/32"],
    ["::ffff:10.0.0.5", "10.0.0.5/32"],
    ["fe80::1%eth0", "fe80::1/128"],
  ])("takes the address %s", (given, written) => expect(singleAddress(given)).toBe(written));

  it("stands in the file with notes that fit", () => {
    const content = (client: HbaClient): string => hbaFile("/x", "seawall", "postgres", client).content;
    expect(content({ ...address, tls: true })).toMatch(/NAT[\s\S]*Without TLS on the server/);
    expect(content({ kind: "address", address: "samenet", tls: false })).toMatch(/samenet: every network/);
    expect(content({ kind: "local", method: "peer" })).not.toMatch(/NAT|TLS/);
  });
});

describe("the role's script", () => {
  it("gives two rights, and quotes names", () => {
    const script = roleScript('O\'Hara "x"', { kind: "none" });
    expect(script).toContain(`ALTER ROLE "O'Hara ""x""" LOGIN REPLICATION;`);
    expect(script).toContain("WHERE rolname = 'O''Hara \"x\"'");
    expect(script).not.toMatch(/PASSWORD|SUPERUSER|GRANT/);
  });
  it("asks for a password that only psql can prepare", () => {
    expect(roleScript("seawall", { kind: "ask" })).toContain("\\password seawall\n");
  });
});

test("a SCRAM verifier is the one that PostgreSQL makes of the password", () => {
  // RFC 7677, section 3: the password "pencil", its salt and 4096 iterations.
  const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
  expect(scramVerifier("pencil", salt)).toBe(
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
  );
  expect(scramVerifier("pass wörd", salt)).toBeUndefined();
});

test("a connection string is read as it was written", () => {
  const values: [string, string][] = [
    ["host", "/a b/c"],
    ["user", "it's"],
    ["password", "back\\slash = \n'"],
    ["options", ""],
  ];
  expect([...parseConninfoText(formatConninfo(values))]).toEqual(values);
});

test("a line of a password file is found again, whatever it holds", () => {
  const query = { host: "fe80::1", port: 5433, user: "a:b\\c" };
  const text = `${passfileLine(query, "x:y\\z")}\n`;
  expect(findPassword(text, { ...query, database: "replication" })).toBe("x:y\\z");
  expect(findPassword(text, { ...query, port: 5432, database: "replication" })).toBeUndefined();
});
