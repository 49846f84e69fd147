/**
 * Keeps `dist` what `src` says, without a type check: worker threads and the command line run from there, and a full
 * `npm run build` before each run would take longer than many of the tests. What changed is translated file by file, and
 * bundled as the build does it.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";
import { bundle } from "../../tools/bundle.ts";

const UNBUNDLED_FOLDER = "build/unbundled/src";

/** The checkout, also when this file was compiled into `build`. */
export const ROOT = ((folder) => {
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
})(import.meta.dirname);

/** The modules of `src` one by one, as the bundler is given them. */
export const UNBUNDLED = join(ROOT, UNBUNDLED_FOLDER);

/** Translates and bundles what is new in `src`. */
export async function buildChanged(): Promise<void> {
  translateChanged();
  await bundle(UNBUNDLED, join(ROOT, "dist"));
}

/** Translates what is newer in `src` than its JavaScript, and removes the JavaScript of what `src` no longer has. */
export function translateChanged(root = ROOT): void {
  const [src, dist] = [join(root, "src"), join(root, UNBUNDLED_FOLDER)];
  const config = ts.readConfigFile(join(root, "tsconfig.build.json"), (path) => readFileSync(path, "utf8"));
  const { options: configured } = ts.parseJsonConfigFileContent(config.config, ts.sys, root);
  // One file by itself does not know that package.json makes it a module.
  const options = { ...configured, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
  const sources = new Set(filesIn(src).filter((path) => path.endsWith(".ts")));
  for (const path of sources) {
    const { mtime } = statSync(join(src, path));
    const target = join(dist, path.replace(/\.ts$/, ".js"));
    if (existsSync(target) && Math.abs(statSync(target).mtimeMs - mtime.getTime()) < 2) continue;
    const text = readFileSync(join(src, path), "utf8");
    const { outputText } = ts.transpileModule(text, {
      fileName: join(src, path),
      compilerOptions: options,
    });
    mkdirSync(dirname(target), { recursive: true });
    // Its time is its source's: a change of either shows.
    writeAtomically(target, outputText, mtime);
  }
  for (const path of existsSync(dist) ? filesIn(dist) : []) {
    const source = path.replace(/\.js$/, ".ts");
    if (source !== path && !sources.has(source)) rmSync(join(dist, path));
  }
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

/** Another run in the same checkout may be loading the file. */
function writeAtomically(path: string, text: string, time: Date): void {
  const aside = `${path}.${process.pid}`;
  writeFileSync(aside, text);
  utimesSync(aside, time, time);
  renameSync(aside, path);
}
