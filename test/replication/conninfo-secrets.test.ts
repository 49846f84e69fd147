/** Connection settings are printed in logs and errors: never with a secret in them. */
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { type ConnectionSettings } from "../../src/replication/settings.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";

const parse = (dsn: string): ConnectionSettings =>
  parseConninfo({ dsn, env: {}, osUser: "osuser", files: () => undefined });

describe("secrets", () => {
  const secret = "s3cr3t";
  const settings = parse(`postgresql://me:${secret}@h/db?sslpassword=${secret}`);

  it("are in no form that gets printed", () => {
    const shown = [
      JSON.stringify(settings),
      inspect(settings, { depth: 9, showHidden: true }),
      String(settings),
      settings.redacted(),
    ];
    for (const text of shown) expect(text).not.toContain(secret);
    expect(settings.redacted()).toBe("h:5432 user=me dbname=db sslmode=prefer");
  });

  it.each([
    `host=h password=${secret} nonsense`,
    `host=h password=${secret} 'unquoted part`,
    `password='${secret}`,
    `my ${secret} password`,
    `postgresql://me:${secret}%ZZ@h`,
    `postgresql://me:${secret}@h:port`,
    `postgresql://me:${secret}@[::1`,
    `host=h password=${secret} sslmode=x`,
    `scram_client_key=${secret}`,
  ])("are in no error message: %s", (dsn) => {
    let shown = "";
    try {
      parse(dsn);
    } catch (error) {
      shown = inspect(error, { depth: 9 }) + (error as Error).message;
    }
    expect(shown).toContain("SeawallError");
    expect(shown).not.toContain(secret);
  });
});
