/** What a drill asks of a recovered server: the user's own questions, and PostgreSQL's tools. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { DrillCheck } from "../archive/drills.ts";
import { SeawallError, isAbort } from "../errors.ts";
import { type DrillBinaries, findTool } from "./drill-binaries.ts";
import type { DrillServer } from "./drill-server.ts";
import type { Owner } from "./part-writer.ts";

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 16 << 20;
const MESSAGE_CHARACTERS_MAX = 500;

/** `query`, or `database: query`. Passes when its first value is neither false nor null; a query that returns no row fails. */
export async function checkQuery(server: DrillServer, text: string, signal: AbortSignal): Promise<DrillCheck> {
  const [, database = "postgres", query = text] = /^([A-Za-z_][\w$-]*):\s+(.+)$/s.exec(text) ?? [];
  try {
    await using connection = await server.connect(database);
    // The user's own question takes as long as it takes.
    const { rows } = await connection.query<Record<string, unknown>>(query, [], { signal, timeoutMs: 0 });
    const [row] = rows;
    if (row === undefined) return { name: text, outcome: "failed", message: "it returned no row" };
    const [value] = Object.values(row);
    const passed = value !== null && value !== undefined && value !== false && value !== "f" && value !== "false";
    return { name: text, outcome: passed ? "passed" : "failed", message: shown(value) };
  } catch (error) {
    if (!(error instanceof SeawallError) || isAbort(error)) throw error;
    return { name: text, outcome: "failed", message: error.message };
  }
}

function shown(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "nothing");
  return text.slice(0, MESSAGE_CHARACTERS_MAX);
}

export interface ToolOptions {
  readonly binaries: DrillBinaries;
  readonly owner: Owner | undefined;
  readonly signal: AbortSignal;
}

/** pg_amcheck on every database: heap and B-tree structures. */
export async function checkStructures(server: DrillServer, options: ToolOptions): Promise<DrillCheck> {
  const args = ["--all", "--install-missing", "--jobs=2", "--no-password"];
  return tool("amcheck", "pg_amcheck", args, { ...options, env: server.clientEnv });
}

/** pg_checksums on the files, the server stopped. */
export async function checkPages(dataDir: string, options: ToolOptions): Promise<DrillCheck> {
  return tool("checksums", "pg_checksums", ["--check", "-D", dataDir], { ...options, env: {} });
}

async function tool(
  name: string,
  program: string,
  args: readonly string[],
  options: ToolOptions & { readonly env: Readonly<Record<string, string>> },
): Promise<DrillCheck> {
  const { binaries, owner, signal, env } = options;
  const path = await findTool(binaries, program);
  if (path === undefined) return { name, outcome: "skipped", message: `${program} is not in ${binaries.directory}` };
  try {
    const { stdout } = await run(path, [...args], {
      env: { ...env, PATH: binaries.directory, LC_ALL: "C" },
      maxBuffer: OUTPUT_BYTES_MAX,
      signal,
      ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
    });
    return { name, outcome: "passed", message: oneLine(stdout) };
  } catch (error) {
    if (signal.aborted) throw new SeawallError("aborted", `${program} was cancelled`, { cause: error });
    const { stdout = "", stderr = "", code } = error as { stdout?: string; stderr?: string; code?: number | string };
    const said = lastLine(stderr) ?? lastLine(stdout) ?? `it exited with ${code ?? "a signal"}`;
    // An extension that is not installed says nothing about the data.
    const unable = /could not open extension control file|extension "amcheck" is not available/.test(stderr);
    return { name, outcome: unable ? "skipped" : "failed", message: said.slice(0, MESSAGE_CHARACTERS_MAX) };
  }
}

function oneLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim().replaceAll(/\s+/g, " "));
  return (
    lines
      .filter((line) => line !== "")
      .join(", ")
      .slice(0, MESSAGE_CHARACTERS_MAX) || "nothing was found"
  );
}

function lastLine(text: string): string | undefined {
  return text.trim() === "" ? undefined : text.trim().split("\n").at(-1);
}
