/**
 * The table of the JSON documents that the program prints: the schema of each, and the commands that print none.
 * `npm run docs` writes them to docs/json/.
 */
import { COMMAND_NAMES, type CommandName } from "../../src/config/options.ts";
import { listSchema, showSchema, verifySchema } from "./catalog.ts";
import {
  clusterAllowPlainSchema,
  clusterRemoveSchema,
  clusterUpgradeSchema,
  deleteSchema,
  expireSchema,
  pinSchema,
  rekeySchema,
  unpinSchema,
} from "./keep.ts";
import { failure } from "./parts.ts";
import { drillSchema, restoreCheckSchema, restoreSchema, walFetchSchema } from "./recover.ts";
import { closed, type Schema } from "./schema.ts";
import {
  backupSchema,
  checkSchema,
  costSchema,
  eventSchema,
  importSchema,
  initSchema,
  keygenSchema,
  notifyTestSchema,
  slotCreateSchema,
  slotDropSchema,
  walPushSchema,
} from "./set-up.ts";
import { statusCheckSchema, statusSchema } from "./status.ts";

/** Commands that print no document, and why; --json makes their errors JSON. */
const WITHOUT_DOCUMENT = {
  receive: "it prints log lines",
  "wal-prefetch": "wal-fetch starts it, and reads nothing from it",
  completion: "it prints a script for a shell",
} as const satisfies Partial<Record<CommandName, string>>;

type Printing = Exclude<CommandName, keyof typeof WITHOUT_DOCUMENT>;

/** An option that changes the document has an entry of its own. */
type Form = Printing | "restore --check" | "status --check";

const OF_COMMANDS: Readonly<Record<Form, () => Schema>> = {
  "slot create": slotCreateSchema,
  "slot drop": slotDropSchema,
  "cluster upgrade": clusterUpgradeSchema,
  "cluster remove": clusterRemoveSchema,
  "cluster allow-plain": clusterAllowPlainSchema,
  init: initSchema,
  keygen: keygenSchema,
  check: checkSchema,
  status: statusSchema,
  "status --check": statusCheckSchema,
  backup: backupSchema,
  restore: restoreSchema,
  "restore --check": restoreCheckSchema,
  drill: drillSchema,
  "wal-fetch": walFetchSchema,
  "wal-push": walPushSchema,
  import: importSchema,
  list: listSchema,
  show: showSchema,
  verify: verifySchema,
  expire: expireSchema,
  delete: deleteSchema,
  rekey: rekeySchema,
  pin: pinSchema,
  unpin: unpinSchema,
  "notify-test": notifyTestSchema,
  cost: costSchema,
};

/** The name of the file of a form, without its ending. */
function fileOf(form: string): string {
  return form.replaceAll("--", "").replaceAll(/ +/g, "-");
}

/** All files of docs/json/, by name. */
export function jsonSchemas(): ReadonlyMap<string, Schema> {
  const error = closed("The last line of stderr of a command with --json that failed.", { error: failure() });
  const documents: readonly (readonly [string, Schema])[] = [
    ...Object.entries(OF_COMMANDS).map(([form, schema]) => [fileOf(form), schema()] as const),
    ["error", error],
    ["event", eventSchema()],
  ];
  return new Map(
    documents.map(([name, schema]) => [
      `${name}.schema.json`,
      { $schema: "https://json-schema.org/draft/2020-12/schema", title: `seawall ${name}`, ...schema },
    ]),
  );
}

/** The file for the document of a command line; undefined for a command that prints none. */
export function schemaFileOf(args: readonly string[]): string | undefined {
  const name = COMMAND_NAMES.find((known) => known === args[0] || known === args.slice(0, 2).join(" "));
  if (name === undefined || name in WITHOUT_DOCUMENT) return undefined;
  const asks = args.some((arg) => arg === "--check" || arg.startsWith("--check="));
  const form = asks && (name === "restore" || name === "status") ? `${name} --check` : name;
  return `${fileOf(form)}.schema.json`;
}

/** The table of docs/json.md. */
export function schemaTable(): string {
  const rows = Object.keys(OF_COMMANDS).map((form) => {
    const file = `${fileOf(form)}.schema.json`;
    return `| \`seawall ${form} --json\` | [${file}](json/${file}) |`;
  });
  const none = Object.entries(WITHOUT_DOCUMENT).map(([name, why]) => `| \`seawall ${name} --json\` | none: ${why} |`);
  return ["| command | schema |", "| --- | --- |", ...rows, ...none].join("\n");
}
