/**
 * Holds what a command printed with --json against its schema in docs/json/. `runCli` and `inProcess` do so for every command
 * that a test runs, so that each of these tests proves the schema too.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { schemaFileOf } from "../../tools/json/schemas.ts";
import { ROOT } from "./build.ts";

const FOLDER = join(ROOT, "docs", "json");

let ajv: Ajv2020 | undefined;
const compiled = new Map<string, ValidateFunction>();

export interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}

/** Throws what is wrong with the output. Does nothing for a command line without --json. */
export function holdToSchema(args: readonly string[], { stdout, stderr }: Printed): void {
  if (!args.includes("--json") || args.some((arg) => ["--nagios", "--help", "-h"].includes(arg))) return;
  const found: string[] = [];
  const file = schemaFileOf(args);
  if (file !== undefined && stdout !== "") found.push(...faultsOf(file, stdout));
  for (const line of stderr.split("\n")) {
    if (line.startsWith('{"error":')) found.push(...faultsOf("error.schema.json", line));
    if (line.startsWith('{"event":')) found.push(...faultsOf("event.schema.json", line));
  }
  if (found.length > 0) throw new Error(`seawall ${args.join(" ")}:\n${found.join("\n")}\n${stdout}${stderr}`);
}

/** What is wrong with a document, by its schema's file. */
export function faultsOf(file: string, text: string): string[] {
  const document = parsed(text);
  if (document === undefined) return [`${file}: this is not one JSON document`];
  const validate = compiled.get(file) ?? compile(file);
  if (validate(document)) return [];
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) => `${file}: ${instancePath} ${message ?? ""} ${JSON.stringify(params)}`,
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function compile(file: string): ValidateFunction {
  ajv ??= newAjv();
  const validate = ajv.compile(JSON.parse(readFileSync(join(FOLDER, file), "utf8")) as object);
  compiled.set(file, validate);
  return validate;
}

function newAjv(): Ajv2020 {
  const made = new Ajv2020({ allErrors: true, allowUnionTypes: true });
  addFormats.default(made);
  return made;
}
