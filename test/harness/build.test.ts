/** The quick build before a run: what changes in src changes in dist, what goes from src goes from dist. */
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildChanged } from "./build.ts";
import { makeTempDir, removeTree } from "./temp.ts";

test("dist follows src: new, changed and removed files, with import paths rewritten", () => {
  const root = makeTempDir("scratch");
  try {
    const compilerOptions = { target: "es2023", module: "nodenext", rewriteRelativeImportExtensions: true };
    writeFileSync(join(root, "tsconfig.build.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
    writeFileSync(join(root, "package.json"), JSON.stringify({ type: "module" }));
    mkdirSync(join(root, "src", "room"), { recursive: true });
    const [a, b] = [join(root, "src", "a.ts"), join(root, "src", "room", "b.ts")];
    writeFileSync(a, `import { b } from "./room/b.ts";\nexport const a: number = b;\n`);
    writeFileSync(b, "export const b: number = 1;\n");
    buildChanged(root);
    expect(readFileSync(join(root, "dist", "a.js"), "utf8")).toContain(`from "./room/b.js"`);

    writeFileSync(b, "export const b: number = 2;\n");
    utimesSync(b, 1_000_000, 1_000_000);
    buildChanged(root);
    expect(readFileSync(join(root, "dist", "room", "b.js"), "utf8")).toContain("b = 2");

    rmSync(b);
    buildChanged(root);
    expect([existsSync(join(root, "dist", "room", "b.js")), existsSync(join(root, "dist", "a.js"))]).toEqual([
      false,
      true,
    ]);
  } finally {
    removeTree(root);
  }
});
