/**
 * The rules of the house as a function of the files' texts, so that the rules themselves can be tested: DESIGN §4
 * (directions of imports, purity), STYLE (length, exports, opening comments), and what must never be committed.
 */
import { posix } from "node:path";
import ts from "typescript";

/** Path below the repository's root, with forward slashes → text. */
export type Files = ReadonlyMap<string, string>;

export interface Violation {
  readonly rule: string;
  readonly path: string;
  readonly message: string;
}

/** A longer file gets a warning for its reviewer, not a failure: one thing is not split to get under a number. */
const FILE_LINES_USUAL = 400;

/** Which rooms of src each room may import from, besides itself and the files at the root of src. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  wal: [],
  codec: [],
  store: [],
  metrics: [],
  config: ["wal", "store"],
  replication: ["wal"],
  archive: ["wal", "store", "codec"],
  receive: ["replication", "archive", "store", "codec", "wal"],
  backup: ["replication", "archive", "store", "codec", "wal"],
  restore: ["replication", "archive", "store", "codec", "wal"],
  import: ["archive", "store", "codec", "wal"],
  daemon: ["receive", "backup", "restore", "replication", "archive", "store", "codec", "wal", "config", "metrics"],
  cli: [
    ...["daemon", "receive", "backup", "restore", "import", "replication", "archive", "store", "codec", "wal"],
    ...["config", "metrics"],
  ],
};

/** Rooms whose files are functions of their arguments; codec may use worker threads and buffers, not files or sockets. */
const PURE_ROOMS = ["wal", "codec"];
/** How stored bytes are made and taken apart: other rooms have it done by the codec that their archive holds (src/codec/codec.ts). */
const STORED_BYTES = [
  "age/clear-envelope",
  "age/header",
  "age/open",
  "age/payload",
  "age/seal",
  "envelope",
  "frame",
  "frames",
  "object",
  "plain-writer",
  "unzstd",
  "zstd",
  "zstd-of-thread",
].map((name) => `src/codec/${name}.ts`);
/** Files at the root of src that every room may import; pure rooms only the first. */
const SHARED = [
  ...["src/error-kinds.ts", "src/errors.ts", "src/log.ts", "src/signals.ts"],
  "src/turns.ts",
  "src/zstd-library.ts",
  "src/worker-thread.ts",
  "src/program-files.ts",
  "src/idle-memory.ts",
  "src/suggest.ts",
  "src/colours.ts",
  "src/plural.ts",
  "src/outage.ts",
  "src/live-line.ts",
  "src/node-http.ts",
];
/** Node.js 20 and 22 keep what these return for as long as a source lives; src/signals.ts has what to use instead. */
const LEAKING = /^AbortSignal\.(any|timeout)$/;

const IO_MODULES =
  /^(node:)?(fs|fs\/promises|net|tls|http|https|http2|dgram|dns|dns\/promises|child_process|os|process|readline|repl|cluster)$/;

/** Assembled, so that this file does not contain them. */
const UNFINISHED = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME"].join("|")})\\b`);
const MACHINE_PATHS = new RegExp(["/wo" + "rk/", "/tmp/" + "sw", "/ro" + "ot/", "/home/[a-z]"].join("|"));
const SKIPPED_TEST = /\b(?:test|it|describe)\.(?:skip|only|todo)\b(?!If)/;

/** STYLE, "English": the few of its rules that can be checked fairly. */
const VAGUE_WORDS = /\b(nobody|somebody|whoever|anybody)\b/i;
const BARE_OPENING = /\/\*\*\s+(?:\* )?(Of|As|From|What|Who)\b/;

/** Every violation in `files`; `entryPoints` are the files from which everything in src must be reached. */
export function checkHouse(files: Files, entryPoints: readonly string[]): Violation[] {
  const found: Violation[] = [];
  for (const [path, text] of files) {
    const report = (rule: string, message: string) => found.push({ rule, path, message });
    const machinePath = MACHINE_PATHS.exec(text)?.[0];
    if (machinePath !== undefined) report("machine path", `contains "${machinePath}"`);
    if (!path.endsWith(".ts")) continue;
    const unfinished = UNFINISHED.exec(text)?.[0];
    if (unfinished !== undefined) report("unfinished", `contains ${unfinished}`);
    if (!/^(#![^\n]*\n)?(\/\*|\/\/)/.test(text)) report("opening comment", "does not open with a comment on its job");
    if (path.startsWith("test/") && SKIPPED_TEST.test(text))
      report("skipped test", "skips, focuses or postpones a test");
    if (/^(src|tools)\//.test(path)) {
      const word = VAGUE_WORDS.exec(text)?.[0];
      if (word !== undefined) report("english", `says "${word}": name who it is`);
      const opening = BARE_OPENING.exec(text)?.[1];
      if (opening !== undefined) report("english", `has a doc comment that opens with "${opening}"`);
    }
    if (path.startsWith("src/")) checkSource(path, parse(path, text), report);
  }
  return [...found, ...deadFiles(files, entryPoints), ...importCircles(files)];
}

/**
 * Groups of files of src that import one another, types included, one violation a group: each file of a group can only be
 * understood together with the others. Tarjan's algorithm for strongly connected components.
 */
function importCircles(files: Files): Violation[] {
  const imports = new Map<string, string[]>();
  for (const [path, text] of files) {
    if (!path.startsWith("src/") || !path.endsWith(".ts")) continue;
    const targets = importsOf(parse(path, text)).filter((specifier) => specifier.startsWith("."));
    imports.set(
      path,
      targets.map((specifier) => resolveFrom(path, specifier)).filter((target) => files.has(target)),
    );
  }
  const found: Violation[] = [];
  const order = new Map<string, number>();
  const open: string[] = [];
  const look = (path: string): number => {
    const number = order.size;
    order.set(path, number);
    let low = number;
    open.push(path);
    for (const target of imports.get(path) ?? []) {
      if (!order.has(target)) low = Math.min(low, look(target));
      else if (open.includes(target)) low = Math.min(low, order.get(target) ?? low);
    }
    if (low === number) {
      const group = open.splice(open.indexOf(path));
      if (group.length > 1) {
        const message = `files import one another: ${[...group].sort().join(", ")}`;
        found.push({ rule: "import circle", path: [...group].sort()[0] ?? path, message });
      }
    }
    return low;
  };
  for (const path of imports.keys()) if (!order.has(path)) look(path);
  return found;
}

/** Files that are longer than usual: a reviewer asks of each whether it is one thing. */
export function longFiles(files: Files): string[] {
  return [...files].flatMap(([path, text]) => {
    const lines = text.split("\n").length - 1;
    return path.endsWith(".ts") && lines > FILE_LINES_USUAL ? [`${path}: ${lines} lines`] : [];
  });
}

type Report = (rule: string, message: string) => void;

function checkSource(path: string, source: ts.SourceFile, report: Report): void {
  const room = roomOf(path);
  if (room !== undefined && MAY_IMPORT[room] === undefined) report("import direction", `${room} is not a known room`);
  for (const specifier of importsOf(source)) checkImport(path, room, specifier, report);

  for (const statement of source.statements) {
    const modifiers = ts.canHaveModifiers(statement) ? (ts.getModifiers(statement) ?? []) : [];
    const isDefault = modifiers.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword);
    if (isDefault || ts.isExportAssignment(statement)) report("default export", "exports by default");
    if (ts.isExportDeclaration(statement)) {
      if (statement.exportClause === undefined) report("barrel", "re-exports everything of another file");
      else if (ts.isNamedExports(statement.exportClause)) {
        if (statement.exportClause.elements.some(({ name }) => name.text === "default")) {
          report("default export", "exports by default");
        }
      }
    }
  }

  for (const specifier of room === "codec" ? [] : valueImportsOf(source)) {
    const target = resolveFrom(path, specifier);
    if (STORED_BYTES.includes(target)) report("stored bytes", `imports ${target}: ask the archive's codec`);
  }

  for (const specifier of importsBesideUsing(source)) {
    report("import beside using", `imports ${specifier} in a block that has a using declaration`);
  }

  const pure = room !== undefined && PURE_ROOMS.includes(room);
  visit(source, (node) => {
    if (ts.isSpreadAssignment(node) && ts.isObjectLiteralExpression(node.expression)) {
      report("spread literal", "spreads an object literal into another: write its members out");
    }
    const text = accessText(node);
    if (text === undefined) return;
    if (pure && /^(process\.\w+|Date\.now|Math\.random|performance\.now)$/.test(text)) report("purity", `uses ${text}`);
    if (pure && text === "new Date()") report("purity", "reads the clock with new Date()");
    if (LEAKING.test(text)) report("leaking signal", `uses ${text}`);
    if (room !== "cli" && /^(console\.\w+|process\.(exit|stdout|stdin))$/.test(text)) {
      report("command line only", `uses ${text}`);
    }
  });
}

function checkImport(path: string, room: string | undefined, specifier: string, report: Report): void {
  const pure = room !== undefined && PURE_ROOMS.includes(room);
  if (pure && IO_MODULES.test(specifier)) report("purity", `imports ${specifier}`);
  if (!specifier.startsWith(".")) return;
  const target = resolveFrom(path, specifier);
  if (!target.startsWith("src/")) return report("import direction", `imports ${target}, which is outside of src`);
  const targetRoom = roomOf(target);
  if (targetRoom === undefined) {
    if (!SHARED.includes(target)) report("import direction", `imports ${target}, which is not shared`);
    if (pure && target === "src/log.ts") report("purity", `imports ${target}`);
    return;
  }
  if (room === targetRoom) return;
  if (room === undefined) return report("import direction", `is shared by all rooms and imports ${targetRoom}`);
  if (!(MAY_IMPORT[room] ?? []).includes(targetRoom)) report("import direction", `${room} imports ${targetRoom}`);
}

/** Files of src that no entry point leads to, by import or by a relative path in a string (a worker's file). */
function deadFiles(files: Files, entryPoints: readonly string[]): Violation[] {
  const sources = [...files.keys()].filter((path) => path.startsWith("src/") && path.endsWith(".ts"));
  const missing = entryPoints.filter((path) => !files.has(path));
  const reached = new Set<string>();
  const queue = entryPoints.filter((path) => files.has(path));
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    const source = parse(path, files.get(path) ?? "");
    const references = [...importsOf(source)];
    visit(source, (node) => {
      if (ts.isStringLiteralLike(node) && /^\.{1,2}\/.*\.(js|ts)$/.test(node.text)) references.push(node.text);
    });
    for (const reference of references.filter((specifier) => specifier.startsWith("."))) {
      const target = resolveFrom(path, reference);
      if (files.has(target)) queue.push(target);
    }
  }
  return [
    ...missing.map((path) => ({ rule: "dead file", path, message: "is an entry point and does not exist" })),
    ...sources
      .filter((path) => !reached.has(path))
      .map((path) => ({ rule: "dead file", path, message: "is reached from no entry point" })),
  ];
}

function parse(path: string, text: string): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
}

function importsOf(source: ts.SourceFile): string[] {
  const specifiers: string[] = [];
  visit(source, (node) => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
      if (ts.isStringLiteral(node.moduleSpecifier)) specifiers.push(node.moduleSpecifier.text);
    }
    const called = ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
    const argument = called ? node.arguments[0] : undefined;
    if (argument !== undefined && ts.isStringLiteralLike(argument)) specifiers.push(argument.text);
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
      specifiers.push(node.argument.literal.text);
    }
  });
  return specifiers;
}

/** Specifiers of import declarations that import more than types. */
function valueImportsOf(source: ts.SourceFile): string[] {
  return source.statements.flatMap((statement) => {
    if (!ts.isImportDeclaration(statement) || !ts.isStringLiteral(statement.moduleSpecifier)) return [];
    const clause = statement.importClause;
    if (clause?.isTypeOnly === true) return [];
    const names = clause?.namedBindings;
    const isTypes = names !== undefined && ts.isNamedImports(names) && names.elements.every((name) => name.isTypeOnly);
    return isTypes ? [] : [statement.moduleSpecifier.text];
  });
}

/** Dynamic imports whose extension TypeScript 5.9 does not rewrite, since a `using` in the same block is compiled away. */
function importsBesideUsing(source: ts.SourceFile): string[] {
  const found: string[] = [];
  visit(source, (node) => {
    if (!ts.isBlock(node)) return;
    const isUsing = (one: ts.Statement): boolean =>
      ts.isVariableStatement(one) && (one.declarationList.flags & ts.NodeFlags.Using) !== 0;
    if (!node.statements.some(isUsing)) return;
    visit(node, (inner) => {
      const isImport = ts.isCallExpression(inner) && inner.expression.kind === ts.SyntaxKind.ImportKeyword;
      const argument = isImport ? inner.arguments[0] : undefined;
      if (argument !== undefined && ts.isStringLiteralLike(argument) && argument.text.startsWith("."))
        found.push(argument.text);
    });
  });
  return found;
}

/** `a.b` as text for accesses of globals by their plain name, `new Date()` for the clock. */
function accessText(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    return `${node.expression.text}.${node.name.text}`;
  }
  if (ts.isElementAccessExpression(node) && ts.isIdentifier(node.expression)) {
    const { argumentExpression: name } = node;
    return ts.isStringLiteralLike(name) ? `${node.expression.text}.${name.text}` : undefined;
  }
  const isDate = ts.isNewExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "Date";
  return isDate && (node.arguments ?? []).length === 0 ? "new Date()" : undefined;
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}

function resolveFrom(path: string, specifier: string): string {
  return posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts");
}

function roomOf(path: string): string | undefined {
  const parts = path.split("/");
  return parts.length > 2 ? parts[1] : undefined;
}
