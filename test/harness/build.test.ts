/** The quick build before a run: what changes in src changes in its JavaScript, what goes from src goes there too. */
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { translateChanged } from "./build.ts";
import { makeTempDir, removeTree } from "./temp.ts";

test("the JavaScript follows src: new, changed and removed files, with import paths rewritten", () => {
  const root = makeTempDir("scratch");
  try {
    const compilerOptions = { target: "es2023", module: "nodenext", rewriteRelativeImportExtensions: true };
    writeFileSync(join(root, "tsconfig.build.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
    writeFileSync(join(root, "package.json"), JSON.stringify({ type: "module" }));
    mkdirSync(join(root, "src", "room"), { recursive: true });
    const [a, b] = [join(root, "src", "a.ts"), join(root, "src", "room", "b.ts")];
    writeFileSync(a, `import { b } from "./room/b.ts";\nexport const a: number = b;\n`);
    writeFileSync(b, "export const b: number = 1;\n");
    translateChanged(root);
    expect(readFileSync(join(root, "build/unbundled/src", "a.js"), "utf8")).toContain(`from "./room/b.js"`);

    writeFileSync(b, "export const b: number = 2;\n");
    utimesSync(b, 1_000_000, 1_000_000);
    translateChanged(root);
    expect(readFileSync(join(root, "build/unbundled/src", "room", "b.js"), "utf8")).toContain("b = 2");

    rmSync(b);
    translateChanged(root);
    expect([
      existsSync(join(root, "build/unbundled/src", "room", "b.js")),
      existsSync(join(root, "build/unbundled/src", "a.js")),
    ]).toEqual([false, true]);
  } finally {
    removeTree(root);
  }
});
