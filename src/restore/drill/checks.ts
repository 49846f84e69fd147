/** The checks of a drill on a recovered server: the user's queries, and PostgreSQL's tools. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { DrillCheck } from "../../archive/records/drills.ts";
import { SeawallError, isAbort } from "../../errors.ts";
import { type DrillBinaries, findTool } from "./binaries.ts";
import type { DrillClient } from "./client.ts";
import type { Owner } from "../part-writer.ts";

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 16 << 20;
const MESSAGE_CHARACTERS_MAX = 500;
/** pg_amcheck's exit status when it has found damage. */
const DAMAGE_FOUND = 2;

export interface DrillQuery {
  /** The question as it was given. */
  readonly text: string;
  /** Undefined: the maintenance database. */
  readonly database: string | undefined;
  readonly query: string;
}

/** `query`, `database: query`, or `"data base": query` with quotes inside doubled. Pure. */
export function parseQuery(text: string): DrillQuery {
  const [, quoted, plain, query = text] = /^(?:"((?:[^"]|"")+)"|([A-Za-z_][\w$-]*)):\s+(.+)$/s.exec(text) ?? [];
  return { text, database: quoted?.replaceAll('""', '"') ?? plain, query };
}

/** Passes when the first value is neither false nor null; a query that returns no row fails. */
export async function checkQuery(client: DrillClient, asked: DrillQuery, signal: AbortSignal): Promise<DrillCheck> {
  const { text, query, database = client.maintenanceDatabase } = asked;
  try {
    await using connection = await client.connect(database);
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
export async function checkStructures(client: DrillClient, options: ToolOptions): Promise<DrillCheck> {
  const program = await findTool(options.binaries, "pg_amcheck");
  const skipped = (message: string): DrillCheck => ({ name: "amcheck", outcome: "skipped", message });
  if (program === undefined) return skipped(`pg_amcheck is not in ${options.binaries.directory}`);
  try {
    if (!(await installAmcheck(client, options.signal))) return skipped("the extension amcheck is not installed here");
  } catch (error) {
    if (!(error instanceof SeawallError) || isAbort(error)) throw error;
    return { name: "amcheck", outcome: "failed", message: `cannot look into a database: ${error.message}` };
  }
  const args = ["--all", "--jobs=2", "--no-password", `--maintenance-db=${client.maintenanceDatabase}`];
  return tool("amcheck", program, args, { ...options, env: client.env });
}

/** Installs the extension where it is missing, whatever the cluster's event triggers say. False when there is none here. */
async function installAmcheck(client: DrillClient, signal: AbortSignal): Promise<boolean> {
  await using first = await client.connectPlain(client.maintenanceDatabase);
  const available = "SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'";
  if ((await first.query(available, [], { signal })).rows.length === 0) return false;
  const open = "SELECT datname::text AS name FROM pg_database WHERE datallowconn AND datconnlimit <> -2";
  const { rows } = await first.query<{ name: string }>(open, [], { signal });
  for (const { name } of rows) {
    await using connection = await client.connectPlain(name);
    // Locks of prepared transactions would keep amcheck waiting for ever. The queries ran before this.
    const prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
    for (const { gid } of (await connection.query<{ gid: string }>(prepared, [], { signal })).rows) {
      await connection.query(`ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`, [], { signal });
    }
    // Before 17 no setting turns them off.
    await connection.query("UPDATE pg_event_trigger SET evtenabled = 'D' WHERE evtenabled <> 'D'", [], { signal });
    await connection.query("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog", [], { signal });
  }
  return true;
}

/** pg_checksums on the files, the server stopped. */
export async function checkPages(dataDir: string, options: ToolOptions): Promise<DrillCheck> {
  const program = await findTool(options.binaries, "pg_checksums");
  const name = "checksums";
  if (program === undefined) {
    return { name, outcome: "skipped", message: `pg_checksums is not in ${options.binaries.directory}` };
  }
  return tool(name, program, ["--check", "-D", dataDir], { ...options, env: {} });
}

async function tool(
  name: string,
  program: string,
  args: readonly string[],
  options: ToolOptions & { readonly env: Readonly<Record<string, string>> },
): Promise<DrillCheck> {
  const { binaries, owner, signal, env } = options;
  try {
    const { stdout } = await run(program, [...args], {
      env: { ...env, PATH: binaries.directory, LC_ALL: "C" },
      maxBuffer: OUTPUT_BYTES_MAX,
      signal,
      ...owner,
    });
    return { name, outcome: "passed", message: oneLine(stdout) };
  } catch (error) {
    if (signal.aborted) throw new SeawallError("aborted", `${program} was cancelled`, { cause: error });
    const { stdout = "", stderr = "", code } = error as { stdout?: string; stderr?: string; code?: number | string };
    // What was found stands in the output; the other stream holds notices and what went wrong.
    const said = code === DAMAGE_FOUND && stdout.trim() !== "" ? oneLine(stdout) : lastLine(stderr);
    const message = said ?? lastLine(stdout) ?? `it exited with ${code ?? "a signal"}`;
    return { name, outcome: "failed", message: message.slice(0, MESSAGE_CHARACTERS_MAX) };
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
