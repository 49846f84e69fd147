/**
 * Joins the modules of `src` into the files of `dist`. A module of its own costs Node.js 0.6 ms of processor time, and a short
 * command needs 150 of them: joined, `seawall list` takes 200 instead of 256 ms on Node.js 20, and 150 instead of 196 on 24.
 * Packages stay outside, and what a command loads only when it needs it is still loaded only then.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative } from "node:path";
import { type OutputChunk, rolldown } from "rolldown";
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
/** Modules that so many commands and threads share are one file, though not each needs all of it. */
const SHARED_BY = 12;

/**
 * Bundles the JavaScript in `from`, which the compiler has made of `src`, into `to`. A file whose content is the same is left
 * alone, others are replaced in one step each, and JavaScript that is no longer part of the program is removed.
 */
export async function bundle(from: string, to: string): Promise<void> {
  const output = await joined(from);
  const files = new Map(output.map(({ fileName, code }) => [fileName, code]));
  const packages = packagesOf(join(to, "..", "package.json"));
  for (const file of output) refuseWrong(file, { from, packages, isOurs: (path) => files.has(path) });
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

async function joined(from: string): Promise<OutputChunk[]> {
  const imports = new Map<string, readonly string[]>();
  const build = await rolldown({
    input: Object.fromEntries(ENTRIES.map((path) => [path.replace(/\.js$/, ""), join(from, path)])),
    platform: "node",
    external: (id) => !id.startsWith(".") && !id.startsWith("/"),
    onLog: (level, log) => {
      // A module may be imported at once in one place and later in another.
      if (level === "warn" && log.code !== "INEFFECTIVE_DYNAMIC_IMPORT") throw new Error(log.message);
    },
    plugins: [
      {
        name: "imports",
        buildEnd() {
          for (const id of this.getModuleIds()) imports.set(id, this.getModuleInfo(id)?.importedIds ?? []);
        },
      },
    ],
  });
  const set = (...paths: readonly string[]): (() => ReadonlySet<string>) => {
    let found: Set<string> | undefined;
    // The imports are known once the modules are read, and this is asked after that.
    return () =>
      (found ??= reached(
        imports,
        paths.map((path) => join(from, path)),
      ));
  };
  const [program, version] = [set(...PROGRAM), set("cli/commands/version.js")];
  const [codec, short] = [set(THREAD_FILES.codec), set(...SHORT)];
  const isEntry = (id: string): boolean => ENTRIES.includes(relative(from, id));
  const { output } = await build.generate({
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name].js",
    comments: false,
    codeSplitting: {
      groups: [
        // For `--version`, and for what both of the next two need.
        { name: "base", test: (id) => version().has(id) || (program().has(id) && codec().has(id)), priority: 4 },
        { name: "program", test: (id) => program().has(id), priority: 3 },
        // A receiver has several codec threads, and each keeps a copy of what it loads.
        { name: "codec-thread", test: (id) => codec().has(id) && !isEntry(id), priority: 2 },
        { name: "short", test: (id) => short().has(id), priority: 1 },
        { name: "shared", minShareCount: SHARED_BY, priority: 0 },
      ],
    },
  });
  await build.close();
  return output.map((file) => {
    if (file.type !== "chunk") throw new Error(`the bundle has a file that is no JavaScript: ${file.fileName}`);
    return file;
  });
}

/** These modules and what they import at once, themselves or through others. */
function reached(imports: ReadonlyMap<string, readonly string[]>, ids: readonly string[]): Set<string> {
  const found = new Set<string>();
  const take = (id: string): void => {
    const next = imports.get(id);
    // Unknown for a package.
    if (next === undefined || found.has(id)) return;
    found.add(id);
    next.forEach(take);
  };
  ids.forEach(take);
  const [missing] = ids.filter((id) => !found.has(id));
  if (missing !== undefined) throw new Error(`${missing} is no part of the program`);
  return found;
}

/** Throws for a file that would fail, or do another one's work, when it is run. */
function refuseWrong(
  { fileName, moduleIds, imports, dynamicImports }: OutputChunk,
  context: {
    readonly from: string;
    readonly packages: ReadonlySet<string>;
    readonly isOurs: (fileName: string) => boolean;
  },
): void {
  const { from, packages, isOurs } = context;
  const modules = moduleIds.map((id) => relative(from, id));
  // A thread that loaded the first file of another would do that one's work.
  const foreign = modules.find((path) => ENTRIES.includes(path) && path !== fileName);
  if (foreign !== undefined) throw new Error(`${fileName} holds ${foreign}, which must be a file of its own`);
  // It finds the program's files from its own.
  if (modules.includes("program-files.js") && dirname(fileName) !== ".") {
    throw new Error(`src/program-files.ts is in ${fileName}, and must be in the bundle's own folder`);
  }
  // It sets the exit status before it loads anything that could fail.
  if (fileName === ENTRIES[0] && imports.length > 0) {
    throw new Error(`${fileName} imports ${imports.join(", ")} before its first line`);
  }
  for (const id of [...imports, ...dynamicImports].filter((one) => !isOurs(one))) {
    const [scope = "", name = ""] = id.split("/");
    if (isBuiltin(id) || packages.has(scope.startsWith("@") ? `${scope}/${name}` : scope)) continue;
    // The bundler's own helpers would be one: they come with code that it translates.
    throw new Error(`${fileName} imports ${id}, which package.json does not name`);
  }
}

/** The packages that the program may load. */
function packagesOf(path: string): ReadonlySet<string> {
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, object | undefined>;
  return new Set(
    [manifest["dependencies"], manifest["optionalDependencies"]].flatMap((named) => Object.keys(named ?? {})),
  );
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  // Compiled into build/unbundled/tools.
  const [unbundled, root] = [join(import.meta.dirname, ".."), join(import.meta.dirname, "../../..")];
  await bundle(join(unbundled, "src"), join(root, "dist"));
}
