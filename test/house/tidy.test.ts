/** The house stays tidy: its rules hold for every committed file, and each of them is able to fail. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Violation, checkHouse, longFiles } from "./rules.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const TEXT = /\.(ts|js|mjs|json|md|ya?ml|sh|service|example|conf|txt)$|(^|\/)(Dockerfile|run)$/;
const NOT_OURS = [".git", "node_modules", "dist", "build", "coverage", ".cache", "package-lock.json"];

const RULES = [
  "import direction",
  "stored bytes",
  "import circle",
  "purity",
  "command line only",
  "leaking signal",
  "spread literal",
  "import beside using",
  "default export",
  "barrel",
  "dead file",
  "opening comment",
  "english",
  "unfinished",
  "machine path",
  "skipped test",
];

describe("the repository", () => {
  const files = repositoryFiles();
  const violations = checkHouse(files, entryPoints());
  for (const warning of longFiles(files)) console.warn(`long file, is it one thing? ${warning}`);
  test.each(RULES)("keeps the rule: %s", (rule) => {
    const broken = violations.filter((violation) => violation.rule === rule);
    expect(broken.map(({ path, message }) => `${path}: ${message}`)).toEqual([]);
  });
});

describe("each rule can fail", () => {
  const fine = "/** Fine. */\n";
  const cases: { title: string; path: string; text: string; rule: string }[] = [
    { title: "wal importing store", path: "src/wal/a.ts", text: `import "../store/s.ts";`, rule: "import direction" },
    {
      title: "store importing wal",
      path: "src/store/a.ts",
      text: `import { b } from "../wal/b.ts";`,
      rule: "import direction",
    },
    {
      title: "receive importing restore",
      path: "src/receive/a.ts",
      text: `export { b } from "../restore/b.ts";`,
      rule: "import direction",
    },
    {
      title: "daemon importing cli, dynamically",
      path: "src/daemon/a.ts",
      text: `await import("../cli/b.ts");`,
      rule: "import direction",
    },
    {
      title: "a type import of a forbidden room",
      path: "src/codec/a.ts",
      text: `type A = import("../archive/k.ts").A;`,
      rule: "import direction",
    },
    {
      title: "a shared file importing a room",
      path: "src/log.ts",
      text: `import "./wal/lsn.ts";`,
      rule: "import direction",
    },
    { title: "src importing test", path: "src/cli/a.ts", text: `import "../../test/x.ts";`, rule: "import direction" },
    {
      title: "an archive that decodes by itself",
      path: "src/archive/a.ts",
      text: `import { type EncodedObject, decodeObject } from "../codec/object.ts";`,
      rule: "stored bytes",
    },
    {
      title: "an object literal spread into another one",
      path: "src/wal/a.ts",
      text: "export const a = { b: 1, ...{ c: 2 } };",
      rule: "spread literal",
    },
    { title: "a room that is not planned", path: "src/misc/a.ts", text: "", rule: "import direction" },
    { title: "files in wal", path: "src/wal/a.ts", text: `import { readFileSync } from "node:fs";`, rule: "purity" },
    { title: "the clock in wal", path: "src/wal/a.ts", text: "export const t = Date.now();", rule: "purity" },
    { title: "the clock by new Date()", path: "src/wal/a.ts", text: "export const t = new Date();", rule: "purity" },
    { title: "randomness in codec", path: "src/codec/a.ts", text: "export const r = Math.random();", rule: "purity" },
    {
      title: "the environment in wal",
      path: "src/wal/a.ts",
      text: `export const h = process.env["HOME"];`,
      rule: "purity",
    },
    { title: "the log in wal", path: "src/wal/a.ts", text: `import "../log.ts";`, rule: "purity" },
    { title: "printing outside of cli", path: "src/receive/a.ts", text: "console.log(1);", rule: "command line only" },
    { title: "exiting outside of cli", path: "src/daemon/a.ts", text: "process.exit(1);", rule: "command line only" },
    {
      title: "signals joined by Node.js",
      path: "src/receive/a.ts",
      text: "export const s = AbortSignal.any([]);",
      rule: "leaking signal",
    },
    {
      title: "a deadline by Node.js, under its name in brackets",
      path: "src/cli/a.ts",
      text: `export const s = AbortSignal["timeout"](1);`,
      rule: "leaking signal",
    },
    {
      title: "a dynamic import whose extension is not rewritten",
      path: "src/cli/a.ts",
      text: `export async function f() { using a = b(); await import("./c.ts"); }`,
      rule: "import beside using",
    },
    {
      title: "the same beside await using",
      path: "src/cli/a.ts",
      text: `export const f = async () => { await using a = b(); try { await import("./c.ts"); } catch {} };`,
      rule: "import beside using",
    },
    { title: "a word for no one in particular", path: "src/wal/a.ts", text: "// Nobody reads it.", rule: "english" },
    {
      title: "a bare opening",
      path: "src/wal/a.ts",
      text: "/** Of the page. */\nexport const a = 1;",
      rule: "english",
    },
    {
      title: "a bare opening on a line of its own",
      path: "src/wal/a.ts",
      text: "/**\n * What a page says.\n */\nexport const a = 1;",
      rule: "english",
    },
    { title: "a default export", path: "src/wal/a.ts", text: "export default function f() {}", rule: "default export" },
    {
      title: "a default export by name",
      path: "src/wal/a.ts",
      text: "const a = 1; export { a as default };",
      rule: "default export",
    },
    { title: "a barrel", path: "src/wal/a.ts", text: `export * from "./b.ts";`, rule: "barrel" },
    { title: "an unfinished thing", path: "bench/a.ts", text: `// ${"TO" + "DO"}: later`, rule: "unfinished" },
    { title: "a path of a machine", path: "README.md", text: `see ${"/ro" + "ot/x"}`, rule: "machine path" },
    {
      title: "a skipped test",
      path: "test/a.test.ts",
      text: `${"test" + ".skip"}("x", () => {});`,
      rule: "skipped test",
    },
  ];

  for (const { title, path, text, rule } of cases) {
    test(title, () => {
      const files = new Map([[path, path.endsWith(".md") ? text : fine + text]]);
      expect(rulesBroken(checkHouse(files, [...files.keys()]))).toEqual([rule]);
    });
  }

  test("a file without an opening comment", () => {
    const files = new Map([["src/wal/a.ts", "export const a = 1;\n"]]);
    expect(rulesBroken(checkHouse(files, ["src/wal/a.ts"]))).toEqual(["opening comment"]);
  });

  test("a file that nothing leads to; imports and worker files lead to theirs", () => {
    const files = new Map([
      ["src/cli/main.ts", `${fine}import "./used.ts";`],
      ["src/cli/used.ts", `${fine}export const url = new URL("../codec/worker.js", import.meta.url);`],
      ["src/codec/worker.ts", fine],
      ["src/codec/dead.ts", fine],
    ]);
    expect(checkHouse(files, ["src/cli/main.ts"])).toEqual([
      { rule: "dead file", path: "src/codec/dead.ts", message: "is reached from no entry point" },
    ]);
    expect(rulesBroken(checkHouse(new Map(), ["src/cli/main.ts"]))).toEqual(["dead file"]);
  });

  test("files that import one another, by types or late, however long the way", () => {
    const files = new Map([
      ["src/wal/a.ts", `${fine}import type { B } from "./b.ts";\nexport type A = B;`],
      ["src/wal/b.ts", `${fine}export const b = () => import("./c.ts");`],
      ["src/wal/c.ts", `${fine}export { a } from "./a.ts";\nimport "./d.ts";`],
      ["src/wal/d.ts", `${fine}import "./e.ts";`],
      ["src/wal/e.ts", fine],
    ]);
    expect(checkHouse(files, ["src/wal/a.ts"])).toEqual([
      {
        ...{ rule: "import circle", path: "src/wal/a.ts" },
        message: "files import one another: src/wal/a.ts, src/wal/b.ts, src/wal/c.ts",
      },
    ]);
  });

  test("a long file is a warning, not a broken rule", () => {
    const files = new Map([["test/a.ts", "//\n".repeat(401)]]);
    expect(checkHouse(files, [])).toEqual([]);
    expect(longFiles(files)).toEqual(["test/a.ts: 401 lines"]);
  });

  test("a file with nothing wrong breaks no rule", () => {
    const text = `${fine}import { SeawallError } from "../errors.ts";\nexport const a = new Date(0);\nvoid SeawallError;\n`;
    expect(checkHouse(new Map([["src/wal/a.ts", text]]), ["src/wal/a.ts"])).toEqual([]);
  });
});

function rulesBroken(violations: readonly Violation[]): string[] {
  return [...new Set(violations.map(({ rule }) => rule))];
}

/** Everything below the root but what is made or fetched. */
function repositoryFiles(): Map<string, string> {
  const files = new Map<string, string>();
  const walk = (folder: string) => {
    for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (NOT_OURS.includes(path)) continue;
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile() && TEXT.test(path)) files.set(path, readFileSync(join(ROOT, path), "utf8"));
    }
  };
  walk("");
  return files;
}

/** What package.json runs: the command, and the scripts that are part of src. */
function entryPoints(): string[] {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    bin: Record<string, string>;
    scripts: Record<string, string>;
  };
  const texts = [...Object.values(manifest.bin), ...Object.values(manifest.scripts)];
  const built = texts.flatMap((text) => [...text.matchAll(/dist\/(\S+)\.js/g)].map((match) => match[1] ?? ""));
  return [...new Set(built.map((path) => `src/${path}.ts`))];
}
