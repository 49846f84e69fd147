/** An error as the user sees it: nothing of it shows a secret, as text or as JSON. */
import { expect, test } from "vitest";
import { describeFailure } from "../../src/cli/failure.ts";
import { SeawallError } from "../../src/errors.ts";
import { describeError } from "../../src/log.ts";

const SAID = "refused https://u:hidden@proxy, secretaccesskey=hidden, X-Amz-Signature=hidden";

test.each([true, false])("what a server said is shown without secrets (json: %s)", (json) => {
  const error = new SeawallError("store-denied", `put k: ${SAID}`, {
    cause: new Error(SAID),
    hint: `Look at ${SAID}.`,
    details: { s3Message: SAID, status: 403 },
  });
  const { text } = describeFailure(error, { json, unexpectedExit: 70, usageExit: 2 });
  expect(text).toContain("[redacted]");
  expect(text).not.toContain("hidden");
  if (json) expect(JSON.parse(text)).toMatchObject({ error: { details: { status: 403 } } });
});

test("the log shows the details of an error without secrets", () => {
  const error = new SeawallError("store-denied", "put k", { details: { s3Message: SAID } });
  expect(JSON.stringify(describeError(error))).not.toContain("hidden");
});
