/** Keys of age as the options name them: a private key in the wrong place reaches no message. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { identitiesOf, recipientsOf } from "../../src/cli/keys.ts";
import { SeawallError } from "../../src/errors.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

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

test.each([
  [
    "a typing error",
    `${await identityToRecipient(await generateX25519Identity())}\nage1typo\n`,
    '"age1typo" is no recipient of age',
  ],
  ["a private key", `${secret}\n`, "a recipient was given that is a private key"],
  ["comments alone", "# none yet\n", "0 recipients were given"],
])("a file of recipients with %s is named", async (_, content, message) => {
  const folder = makeTempDir("recipients");
  try {
    const path = join(folder, "recipients.txt");
    writeFileSync(path, content);
    const refused = await refusalOf(recipientsOf({ encryptTo: path }));
    expect(refused.code).toBe("usage");
    expect(refused.message.startsWith(`${path}: ${message}`), refused.message).toBe(true);
  } finally {
    removeTree(folder);
  }
});
