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

test("a reason is printed once, however often the chain of causes repeats it", () => {
  const refused = new Error("connect ECONNREFUSED 127.0.0.1:9");
  const inner = new Error(`get k: ${refused.message}`, { cause: refused });
  const error = new SeawallError("store-unavailable", "cannot read the archive", {
    cause: new Error("cannot read k", { cause: inner }),
    hint: "Look.",
  });
  const { text } = describeFailure(error, { json: false, unexpectedExit: 70, usageExit: 2 });
  expect(text.split("\n")).toEqual([
    "error: cannot read the archive [store-unavailable]",
    "  because: cannot read k",
    "  because: get k: connect ECONNREFUSED 127.0.0.1:9",
    "hint: Look.",
    "",
  ]);
});
