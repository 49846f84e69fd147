/** The configuration file: everything wrong in it names line and column. */
import { describe, expect, it } from "vitest";
import { load, refusal } from "./given.ts";

const STORE = { store: "file:///archive" };

describe("bad files name line and column", () => {
  const rows: readonly (readonly [string, string, string, RegExp])[] = [
    [
      "an unknown key",
      "store: file:///a\nship-intervall: 1s\n",
      'seawall.yaml:2:1: unknown key "ship-intervall"',
      /Did you mean ship-interval\?/,
    ],
    [
      "a key in another style",
      "shipInterval: 1s\n",
      'seawall.yaml:1:1: unknown key "shipInterval"',
      /Did you mean ship-interval\?/,
    ],
    ["a key unlike any", "colour: red\n", 'seawall.yaml:1:1: unknown key "colour"', /configuration\.md/],
    ["a flag that is no key", "json: true\n", 'seawall.yaml:1:1: unknown key "json"', /./],
    ["a file inside the file", "config: other.yaml\n", 'seawall.yaml:1:1: unknown key "config"', /./],
    [
      "a number for text",
      "cluster: 2024\n",
      "seawall.yaml:1:10: cluster: expected a name, found the number 2024",
      /cluster: "2024"/,
    ],
    [
      "text for a switch",
      'synchronous: "yes"\n',
      'seawall.yaml:1:14: synchronous: expected a boolean, found the text "yes"',
      /without quotes/,
    ],
    [
      "a word that YAML 1.2 leaves text",
      "synchronous: on\n",
      'seawall.yaml:1:14: synchronous: expected a boolean, found the text "on"',
      /true or false/,
    ],
    [
      "a switch for a number",
      "compress-level: true\n",
      "seawall.yaml:1:17: compress-level: expected an integer, found true",
      /1 to 19/,
    ],
    [
      "a number without unit",
      "ship-interval: 5\n",
      'seawall.yaml:1:16: ship-interval: "5" has no unit',
      /Write 5ms, 5s, 5m\./,
    ],
    [
      "a fraction for an integer",
      "compress-level: 1.5\n",
      'seawall.yaml:1:17: compress-level: "1.5" is not a whole number',
      /1 to 19/,
    ],
    ["nothing", "store:\n", "seawall.yaml:1:7: store: expected a url, found nothing", /value/],
    ["a list", "store: [a, b]\n", "seawall.yaml:1:1: store: expected a url, found a list or a mapping", /s3:/],
    [
      "a mapping",
      "store:\n  url: s3://b\n",
      "seawall.yaml:1:1: store: expected a url, found a list or a mapping",
      /s3:/,
    ],
    [
      "a list of numbers where one of texts is taken",
      "sql: [1, 2]\n",
      "seawall.yaml:1:1: sql: expected a string, found a list of something else",
      /quotes/,
    ],
    [
      "a list without anything in it",
      "sql: []\n",
      "seawall.yaml:1:1: sql: expected a string, found a list or a mapping",
      /text/,
    ],
    ["an empty text in a list", 'sql: ["SELECT true", ""]\n', "seawall.yaml:1:1: sql: the value is empty", /text/],
    [
      "the same key twice",
      "slot: a\nslot: b\n",
      'seawall.yaml:2:1: "slot" is there twice',
      /seawall\.yaml:1:1 already/,
    ],
    [
      "a tab",
      "store:\n\tfile:///a\n",
      "seawall.yaml:2:1: malformed YAML: Tabs are not allowed as indentation",
      /only what stands under clusters: is indented/,
    ],
    [
      "an open quote",
      'store: "file:///a\n',
      'seawall.yaml:2:1: malformed YAML: Missing closing "quote',
      /only what stands under clusters: is indented/,
    ],
    ["a list at the top", "- store\n", "seawall.yaml:1:1: expected a mapping of options", /ship-interval: 1s/],
    ["text at the top", "hello\n", "seawall.yaml:1:1: expected a mapping of options", /ship-interval: 1s/],
    ["two documents", "slot: a\n---\nslot: b\n", "seawall.yaml:2:1: a second YAML document", /one document/],
  ];
  it.each(rows)("%s", async (_, file, message, hint) => {
    const error = await refusal({ file, command: "check" });
    expect(error.code).toBe("usage");
    expect(error.message.startsWith(message), error.message).toBe(true);
    expect(error.hint).toMatch(hint);
  });

  it("a file that is not there names itself and who named it", async () => {
    const error = await refusal({ flags: { ...STORE, config: "/etc/none.yaml" } });
    expect(error.message).toMatch(/^cannot read the configuration file \/etc\/none\.yaml: ENOENT/);
    expect(error.hint).toMatch(/--config/);
  });

  it.each(["", "# only a comment\n", "---\n", "~\n"])("an empty file is no options: %j", async (file) => {
    const { settings } = await load({ command: "check", file });
    expect(settings.slot).toBe("seawall");
  });

  it("an anchor and its alias are plain YAML and work", async () => {
    const { settings } = await load({ command: "check", file: "cluster: &n one\nslot: *n\n" });
    expect([settings.cluster, settings.slot]).toEqual(["one", "one"]);
  });
});
