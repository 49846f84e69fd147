/**
 * The schemas in docs/json/: every command has one, they are what their table says, and a document with a member too many or too
 * few fails. Tests of the commands hold each output against its schema (test/harness/json-output.ts).
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { COMMAND_NAMES } from "../../src/config/options.ts";
import { jsonSchemas, schemaFileOf, schemaTable } from "../../tools/json/schemas.ts";
import { schemaFiles } from "../../tools/reference.ts";
import { layOut } from "../fixtures/damaged-archive.ts";
import { ROOT } from "../harness/build.ts";
import { faultsOf, holdToSchema } from "../harness/json-output.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

let dir: string;
let store: string;
beforeAll(() => {
  dir = makeTempDir("json-schemas");
  layOut(dir, { name: "nothing at all", changes: [] });
  store = `file://${dir}`;
});
afterAll(() => removeTree(dir));

describe("docs/json/", () => {
  it("is not stale (else: npm run docs)", () => {
    const folder = join(ROOT, "docs", "json");
    const stored = readdirSync(folder).map((name) => [`docs/json/${name}`, readFileSync(join(folder, name), "utf8")]);
    expect(Object.fromEntries(stored)).toEqual(Object.fromEntries(schemaFiles()));
  });

  test.each(COMMAND_NAMES)("seawall %s --json has a schema, or a reason why it has none", (name) => {
    const file = schemaFileOf(name.split(" "));
    const row = schemaTable()
      .split("\n")
      .find((line) => line.startsWith(`| \`seawall ${name} --json\` |`));
    expect(row).toMatch(file === undefined ? /\| none: [a-z].* \|$/ : `(json/${file})`);
    if (file !== undefined) expect([...jsonSchemas().keys()]).toContain(file);
  });

  it("describes every member", () => {
    const silent = [...jsonSchemas()].flatMap(([file, schema]) => membersOf(schema, file).filter(([, one]) => !one));
    expect(silent).toEqual([]);
  });
});

/** Every member of a schema: its path, and whether it has a description. */
function membersOf(schema: unknown, path: string): [string, boolean][] {
  if (typeof schema !== "object" || schema === null) return [];
  if (Array.isArray(schema)) return schema.flatMap((one) => membersOf(one, path));
  return Object.entries(schema).flatMap(([key, value]: [string, unknown]) => {
    if (key !== "properties") return membersOf(value, path);
    return Object.entries(value as Record<string, Record<string, unknown>>).flatMap(([name, member]) => [
      [`${path}.${name}`, typeof member["description"] === "string" && member["description"] !== ""] as [
        string,
        boolean,
      ],
      ...membersOf(member, `${path}.${name}`),
    ]);
  });
}

/** Commands whose documents have only members that are always there. */
const WHOLE: readonly (readonly string[])[] = [
  ["list"],
  ["list", "--all"],
  ["show", "latest"],
  ["verify", "--deep"],
  ["delete", "latest", "--force", "--dry-run"],
  ["pin", "latest"],
  ["unpin", "latest"],
  ["cost", "--wal-rate", "1MiB"],
];
/** The store's commands take --store, and `status` no receiver. */
const given = (args: readonly string[]): string[] => [
  ...args,
  ...(args[0] === "cost" ? [] : ["--store", store]),
  ...(args[0] === "status" ? ["--listen", "off"] : []),
  "--json",
];

describe("the document of a command", () => {
  test.each(WHOLE.map((args) => [args.join(" "), args] as const))(
    "seawall %s: each member is needed, and no other is taken",
    async (_, args) => {
      const file = schemaFileOf(args) ?? "";
      const { stdout, stderr } = await inProcess(given(args));
      expect(stdout, stderr).not.toBe("");
      expect(faultsOf(file, stdout)).toEqual([]);
      const changed = changesOf(JSON.parse(stdout));
      expect(changed.length).toBeGreaterThan(2);
      const taken = changed.filter(({ document }) => faultsOf(file, JSON.stringify(document)).length === 0);
      expect(taken.map(({ change }) => change)).toEqual([]);
    },
  );

  test.each(["status", "status --check", "expire --keep-full 1 --dry-run", "cluster remove", "cluster allow-plain"])(
    "seawall %s: is as its schema says",
    async (line) => {
      const words = line.split(" ");
      const { stdout, stderr } = await inProcess(given(words));
      expect(stdout, stderr).not.toBe("");
      expect(faultsOf(schemaFileOf(words) ?? "", stdout)).toEqual([]);
    },
  );

  it("an error is as its schema says, and a second document or a foreign error is found", async () => {
    const args = given(["list", "--cluster", "nowhere"]);
    const { stdout, stderr } = await inProcess(args);
    expect(stdout).toBe("");
    expect(faultsOf("error.schema.json", stderr)).toEqual([]);
    expect(() => holdToSchema(args, { stdout: "{}\n", stderr: "" })).toThrow(/must have required property/);
    expect(() => holdToSchema(args, { stdout: "", stderr: '{"error":{"code":"new"}}\n' })).toThrow(/error\.schema/);
    const once = (await inProcess(given(["list"]))).stdout;
    expect(() => holdToSchema(args, { stdout: once + once, stderr: "" })).toThrow(/not one JSON document/);
  });
});

interface Changed {
  readonly change: string;
  readonly document: unknown;
}

/** The document with one member removed or added, at each place where it has an object. */
function changesOf(document: unknown, path = ""): Changed[] {
  if (typeof document !== "object" || document === null) return [];
  const isList = Array.isArray(document);
  const entries = Object.entries(document);
  const within = entries.flatMap(([name, value]: [string, unknown]) =>
    changesOf(value, `${path}/${name}`).map(({ change, document: inner }) => {
      return { change, document: isList ? document.with(Number(name), inner) : { ...document, [name]: inner } };
    }),
  );
  if (isList) return within;
  const removed = entries.map(([name]) => {
    return {
      change: `without ${path}/${name}`,
      document: Object.fromEntries(entries.filter(([other]) => other !== name)),
    };
  });
  return [...within, ...removed, { change: `${path}/other`, document: { ...document, other: 1 } }];
}
