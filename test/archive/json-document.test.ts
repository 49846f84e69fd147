/** The archive's JSON documents: what is too large or too deep is refused in words, not with the runtime's own error. */
import { describe, expect, test } from "vitest";
import { decodeDocument, encodeDocument, parseFields } from "../../src/archive/json-document.ts";
import { SeawallError } from "../../src/errors.ts";

const nested = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
const documentOf = (member: string): Buffer => Buffer.from(`{"version":1,"name":${member}}`);

function refusal(work: () => unknown): SeawallError {
  try {
    work();
  } catch (error) {
    if (error instanceof SeawallError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("a hostile document", () => {
  test.each([
    {
      title: "of 700 MB",
      bytes: () => Buffer.alloc(700_000_000, 0x20),
      message: "the/key has 700000000 bytes, more than a document may have",
    },
    {
      title: "nested a million times",
      bytes: () => documentOf(nested(1_000_000)),
      message: "the/key is nested deeper than a document may be",
    },
    {
      title: "nested a million times and cut off",
      bytes: () => documentOf("[".repeat(1_000_000)),
      message: "the/key is nested deeper than a document may be",
    },
    {
      title: "that is one string without an end",
      bytes: () => documentOf(`"${"x".repeat(1_000_000)}`),
      message: "the/key is not JSON",
    },
  ])("$title is refused as damaged", ({ bytes, message }) => {
    const error = refusal(() => decodeDocument(bytes(), "the/key"));
    expect(error.code).toBe("object-corrupt");
    expect(error.message).toBe(message);
  });

  test("a line that is nested as deep as it is long is refused for its member", () => {
    const fields = parseFields(`{"path":${nested(30_000)}}`, "index, line 1", "backup-corrupt");
    expect(refusal(() => fields.text("path")).message).toMatch(/^index, line 1: path is (nested too deep|\[{200})$/);
  });
});

test("brackets inside of strings are no depth, escaped quotes do not end them", () => {
  const name = `${"[{".repeat(50)}\\"[[["\\`;
  const bytes = encodeDocument({ name, list: [{ inner: { more: [1] } }] });
  expect(decodeDocument(bytes, "the/key").text("name")).toBe(name);
});

describe("nesting is counted as depth, not as a number of brackets", () => {
  test.each(["{}", "[]", '{"more":[1]}'])("a document with a thousand of %s in a list is read", (item) => {
    const bytes = documentOf(`[${Array.from({ length: 1_000 }, () => item).join(",")}]`);
    expect(decodeDocument(bytes, "the/key").raw("name")).toHaveLength(1_000);
  });

  test.each([
    ["lists", (depth: number) => nested(depth)],
    ["objects", (depth: number) => '{"a":'.repeat(depth) + "1" + "}".repeat(depth)],
  ])("%s sixteen deep are read, the document's own object counted, and seventeen are refused", (_, deep) => {
    decodeDocument(documentOf(deep(15)), "the/key");
    const error = refusal(() => decodeDocument(documentOf(deep(16)), "the/key"));
    expect(error.message).toBe("the/key is nested deeper than a document may be");
  });
});
