/**
 * Joins the modules of `src` into the files of `dist`. A module of its own costs Node.js 0.6 ms of processor time, and a short
 * command needs 150 of them: joined, `seawall list` takes 200 instead of 256 ms on Node.js 20, and 150 instead of 196 on 24.
 * Packages stay outside, and what a command loads only when it needs it is still loaded only then.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative } from "node:path";
import { type InputOptions, rolldown } from "rolldown";
import { THREAD_FILES } from "../src/program-files.ts";

/** Started by their names: the program and its threads. */
const ENTRIES = ["cli/main.js", ...Object.values(THREAD_FILES).map((path) => path.slice("./".length))];
/** Other programs put files there: manual pages and completions. */
const NOT_OURS = ["man", "completions"];

/** Modules that every command line loads, one after the other. */
const PROGRAM = ["cli/program.js", "cli/io.js", "cli/signals.js", "cli/last-resort.js"];
/** Modules that short commands on a directory load, at once or later. */
const SHORT = [
  ...["cli/commands/list.js", "cli/commands/wal-fetch.js"],
  ...["store/file/url.js", "store/open.js", "store/retry.js", "outage.js", "archive/catalog/catalog.js"],
];
/** Modules that so many of the commands and threads share are one file, though not each needs them all. */
const SHARED_BY = 12;

/**
 * Bundles the JavaScript in `from`, which the compiler has made of `src`, into `to`. A file whose content is the same is left
 * alone, others are replaced in one step each, and JavaScript that is no longer part of the program is removed.
 */
export async function bundle(from: string, to: string): Promise<void> {
  const program = new Set<string>();
  for (const path of PROGRAM) for (const id of await modulesOf(join(from, path))) program.add(id);
  const version = await modulesOf(join(from, "cli/commands/version.js"));
  const codec = await modulesOf(join(from, THREAD_FILES.codec));
  const short = new Set<string>();
  for (const path of SHORT) for (const id of await modulesOf(join(from, path))) short.add(id);
  codec.delete(join(from, THREAD_FILES.codec));
  const build = await rolldown(inputOf(Object.fromEntries(ENTRIES.map((path) => [withoutJs(path), join(from, path)]))));
  const { output } = await build.generate({
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name].js",
    comments: false,
    codeSplitting: {
      groups: [
        { name: "base", test: (id) => version.has(id) || (program.has(id) && codec.has(id)), priority: 4 },
        // What every command line needs.
        { name: "program", test: (id) => program.has(id), priority: 3 },
        // A receiver has several codec threads, and each keeps a copy of what it loads.
        { name: "codec-thread", test: (id) => codec.has(id), priority: 2 },
        { name: "short", test: (id) => short.has(id), priority: 1 },
        { name: "shared", minShareCount: SHARED_BY, priority: 0 },
      ],
    },
  });
  await build.close();
  const packages = packagesOf(join(to, "..", "package.json"));
  const chunks = new Set(output.map(({ fileName }) => fileName));
  const files = new Map<string, string>();
  for (const file of output) {
    if (file.type !== "chunk") throw new Error(`the bundle has a file that is no JavaScript: ${file.fileName}`);
    const modules = file.moduleIds.map((id) => relative(from, id));
    // A thread that loaded the first file of another would do that one's work.
    const foreign = modules.find((path) => ENTRIES.includes(path) && path !== file.fileName);
    if (foreign !== undefined) throw new Error(`${file.fileName} holds ${foreign}, which must be a file of its own`);
    // It finds the program's files from its own.
    if (modules.includes("program-files.js") && dirname(file.fileName) !== ".") {
      throw new Error(`src/program-files.ts is in ${file.fileName}, and must be in the bundle's own folder`);
    }
    // It sets the exit status before it loads anything that could fail.
    if (file.fileName === ENTRIES[0] && file.imports.length > 0) {
      throw new Error(`${file.fileName} imports ${file.imports.join(", ")} before its first line`);
    }
    for (const id of [...file.imports, ...file.dynamicImports].filter((one) => !chunks.has(one))) {
      const [scope = "", name = ""] = id.split("/");
      if (isBuiltin(id) || packages.has(scope.startsWith("@") ? `${scope}/${name}` : scope)) continue;
      // The bundler's own helpers would be one: they come with code that it translates.
      throw new Error(`${file.fileName} imports ${id}, which package.json does not name`);
    }
    files.set(file.fileName, file.code);
  }
  for (const [path, code] of files) {
    const target = join(to, path);
    if (existsSync(target) && readFileSync(target, "utf8") === code) continue;
    mkdirSync(dirname(target), { recursive: true });
    // Another run in the same checkout may be loading the file.
    const aside = `${target}.${process.pid}`;
    writeFileSync(aside, code, { mode: path === ENTRIES[0] ? 0o755 : 0o644 });
    renameSync(aside, target);
  }
  for (const path of readdirSync(to, { recursive: true, encoding: "utf8" })) {
    if (NOT_OURS.includes(path.split("/")[0] ?? "") || files.has(path)) continue;
    if (/\.js(\.map)?$/.test(path)) rmSync(join(to, path));
  }
}

/** A module and what it imports at once, itself or through others, by path. */
async function modulesOf(path: string): Promise<Set<string>> {
  const build = await rolldown({ ...inputOf({ entry: path }), treeshake: false });
  const { output } = await build.generate();
  await build.close();
  const chunks = new Map(output.flatMap((file) => (file.type === "chunk" ? [[file.fileName, file] as const] : [])));
  const found = new Set<string>();
  const take = (fileName: string): void => {
    const chunk = chunks.get(fileName);
    // Missing for a package.
    if (chunk === undefined) return;
    chunks.delete(fileName);
    for (const id of chunk.moduleIds) found.add(id);
    chunk.imports.forEach(take);
  };
  take(output[0].fileName);
  return found;
}

/** The packages that the program may load. */
function packagesOf(path: string): ReadonlySet<string> {
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, object | undefined>;
  return new Set(
    [manifest["dependencies"], manifest["optionalDependencies"]].flatMap((named) => Object.keys(named ?? {})),
  );
}

function inputOf(input: Record<string, string>): InputOptions {
  return {
    input,
    platform: "node",
    external: (id) => !id.startsWith(".") && !id.startsWith("/"),
    onLog: (level, log) => {
      // A module may be imported at once in one place and later in another.
      if (level === "warn" && log.code !== "INEFFECTIVE_DYNAMIC_IMPORT") throw new Error(log.message);
    },
  };
}

function withoutJs(path: string): string {
  return path.replace(/\.js$/, "");
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  // Compiled into build/unbundled/tools.
  const [unbundled, root] = [join(import.meta.dirname, ".."), join(import.meta.dirname, "../../..")];
  await bundle(join(unbundled, "src"), join(root, "dist"));
}
