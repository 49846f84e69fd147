/** Keys of age as the options name them: a private key in the wrong place reaches no message. */
import { generateX25519Identity } from "age-encryption";
import { expect, test } from "vitest";
import { identitiesOf, recipientsOf } from "../../src/cli/keys.ts";
import { SeawallError } from "../../src/errors.ts";

const secret = await generateX25519Identity();

async function refusalOf(work: Promise<unknown>): Promise<SeawallError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof SeawallError)) throw new Error("it was not refused");
  return error;
}

test.each([secret, secret.toLowerCase()])(
  "a private key instead of its file is refused, and not shown",
  async (key) => {
    for (const read of [
      async () => identitiesOf({ identity: key, identityPassphraseFile: undefined }),
      async () => recipientsOf({ encryptTo: key }),
    ]) {
      const { code, message, hint, cause } = await refusalOf(read());
      expect(code).toBe("usage");
      expect([message, hint, String(cause)].join(" ").toLowerCase()).not.toContain(key.toLowerCase());
    }
  },
);
