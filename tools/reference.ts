/**
 * The reference pages that are made from tables in code: docs/configuration.md, docs/errors.md, docs/metrics.md,
 * docs/notifications.md, docs/s3-rights.md.
 * `npm run docs` writes them; a test compares them, so that they are never stale.
 */
import { writeFileSync } from "node:fs";
import { defaultText, envName, isNegatable, OPTION_ROWS, type OptionSpec } from "../src/config/options.ts";
import { ERROR_KINDS, type ErrorKind, EXIT } from "../src/error-kinds.ts";
import { METRICS, type MetricSpec } from "../src/metrics/table.ts";
import { notificationsPage } from "./notifications-page.ts";
import { s3RightsPage } from "./s3-rights-page.ts";

export interface ReferencePage {
  /** Relative to the root of the project. */
  readonly path: string;
  readonly content: string;
}

export function referencePages(): ReferencePage[] {
  return [
    { path: "docs/configuration.md", content: configurationPage() },
    { path: "docs/errors.md", content: errorsPage() },
    { path: "docs/metrics.md", content: metricsPage() },
    { path: "docs/notifications.md", content: `${made("src/config/notify-events.ts")}${notificationsPage()}` },
    { path: "docs/s3-rights.md", content: `${made("tools/s3-rights.ts")}${s3RightsPage()}` },
  ];
}

const made = (from: string): string => `<!-- Made by "npm run docs" from ${from}: change it there. -->\n`;

function configurationPage(): string {
  const example = [
    "# /etc/seawall.yaml",
    "dsn: postgres://replicator@db.internal/?sslmode=verify-full",
    "store: s3://wal-archive/prod?region=eu-central-1",
    "cluster: orders",
    "ship-interval: 1s",
  ];
  const clusters = [
    "store: s3://backups/pg?region=eu-central-1",
    'backup-schedule: "0 2 * * *"',
    "clusters:",
    "  orders:",
    "    dsn: host=orders.internal user=seawall",
    "  billing:",
    "    dsn: host=billing.internal user=seawall",
    "    store: s3://other/billing",
    "    keep-full: 7",
  ];
  return `${made("src/config/options.ts")}
# Configuration

Every option is a flag, an environment variable and a key in a YAML file, under one name: \`--ship-interval\`,
\`SEAWALL_SHIP_INTERVAL\`, \`ship-interval:\`. A flag wins over the environment, the environment over the file, the file
over the default. The file is the one that \`--config\` or \`SEAWALL_CONFIG\` names; there is no default path. An empty
environment variable counts as not set.

Anything wrong, an unknown key, a value of the wrong type or out of range, a \`SEAWALL_\` variable that is nearly one of
ours, ends the command with exit status 2 (\`wal-fetch\`: 200), names the place (\`seawall.yaml:3:16\`) and touches nothing.

\`\`\`yaml
${example.join("\n")}
\`\`\`

Durations carry a unit: \`500ms\`, \`10s\`, \`5m\`, \`1h\` (\`0\` needs none). Sizes are in units of 1024: \`64MiB\`, \`16GiB\`.
The file is a mapping; keys of options that a command does not take are checked and otherwise ignored, so one file serves
every command. An alias (\`*name\`) stands for a plain value; merge keys are refused.

The connection to PostgreSQL follows libpq: what \`dsn\` leaves out comes from \`PGHOST\`, \`PGPORT\`, \`PGUSER\`,
\`PGPASSWORD\`, \`PGSSLMODE\` and their kin, then from \`.pgpass\`. S3 credentials follow the AWS SDK's chain.

## Several clusters

\`\`\`yaml
${clusters.join("\n")}
\`\`\`

Under \`clusters:\` stands a name and below it the options of that cluster; what stands at the top is the default for all of
them. The name is the cluster's name in its store. Flags and environment win over both, so \`--dsn\`, \`--spool-dir\` and
\`--from-standby\`, which two clusters cannot share, are refused where several are meant. Options of the whole process stand
at the top only, and \`cluster:\` is not used. Two clusters with one \`spool-dir\`, or with one \`dsn\` and \`slot\`, are refused: the
second would wait for the first for ever.

\`seawall receive\` runs all of them in one process, \`seawall status\` shows all of them; every other command works on the one
that \`--cluster\` (or \`SEAWALL_CLUSTER\`) names, or on the only one. [many-clusters.md](many-clusters.md) is about running it.

## Reloading

SIGHUP makes \`seawall receive\` read the file anew, with the flags and the environment that it was started with. All of it is
checked first: with anything wrong in it nothing changes, and log, \`seawall status\`, page and metrics
(\`seawall_config_last_reload_successful\`) say so. Clusters that are new are started, those that are gone are stopped in
order. A cluster of which only schedules, retention or other options of its jobs have changed goes on streaming; one with
another change is stopped in order and started again, by itself; but one whose spool holds WAL that the store has not, and
that would leave that spool, goes on as it was, and says so in the log: reload again when the store has it. A new \`listen\`
address is listened on before the old one is left, on the same port right after it. Adding \`clusters:\` to a file that had
none, another \`cluster:\` name or \`log-format\` need a restart. Jobs run with what the daemon has loaded: a file that was
edited and not reloaded changes nothing.

## Options

${OPTION_ROWS.map(([, spec]) => optionSection(spec)).join("\n")}`;
}

function optionSection(spec: OptionSpec<unknown>): string {
  const flag = isNegatable(spec) ? `--[no-]${spec.name}` : `--${spec.name}`;
  const taken = spec.type === "boolean" ? "" : ` <${spec.placeholder}>`;
  const names = [`\`${flag}${taken}\``];
  if (spec.flagOnly !== true) names.push(`\`${envName(spec.name)}\``);
  if (spec.flagOnly !== true && spec.name !== "config") names.push(`\`${spec.name}:\` in the file`);
  const facts = [
    names.join(", "),
    `Type: ${spec.type}${spec.type === "boolean" ? "" : ` (${spec.accepts})`}`,
    `Default: ${quoted(defaultText(spec)) ?? "none"}${required(spec)}`,
    `Commands: ${spec.commands.map((name) => `\`${name}\``).join(", ")}`,
  ];
  if (spec.scope === "process" && spec.name !== "cluster")
    facts.push("With several clusters: one for all, at the top of the file");
  if (spec.scope === "own") facts.push("With several clusters: each has its own, so not by flag or variable for all");
  const more = spec.more === undefined ? "" : `\n${spec.more}\n`;
  return `### ${spec.name}\n\n${sentence(spec.help)}\n\n${facts.map((fact) => `- ${fact}`).join("\n")}\n${more}`;
}

function required(spec: OptionSpec<unknown>): string {
  if (spec.requiredBy === undefined) return "";
  return `; required by ${spec.requiredBy.map((name) => `\`${name}\``).join(", ")}`;
}

function errorsPage(): string {
  const exits: readonly (readonly [number, string])[] = [
    [EXIT.done, "Done."],
    [
      EXIT.no,
      "The answer is no: a check failed, there is nothing there. For `wal-fetch`: the archive ends before this file.",
    ],
    [EXIT.usage, "The command line, the environment or the configuration file is wrong; nothing was touched."],
    [EXIT.operational, "Something failed that has no status of its own below."],
    [EXIT.server, "The PostgreSQL server: not reachable, refuses us, or lacks something."],
    [EXIT.store, "The object store: not reachable, refuses us, or lacks something."],
    [EXIT.damage, "WAL or archive is damaged, foreign or diverged. Nothing doubtful was acknowledged."],
    [EXIT.interrupted, "Interrupted by SIGINT (143 after SIGTERM, except for `receive`, which ends with 0)."],
    [
      EXIT.abortRecovery,
      "`wal-fetch` only, for every failure: above 125, so that PostgreSQL stops recovery instead of promoting short of the tip.",
    ],
  ];
  const groups = new Map<number, string[]>();
  for (const [code, kind] of Object.entries<ErrorKind>(ERROR_KINDS)) {
    groups.set(kind.exit, [...(groups.get(kind.exit) ?? []), errorSection(code, kind)]);
  }
  const sections = [...groups]
    .sort(([a], [b]) => a - b)
    .map(([exit, codes]) => `## Exit status ${exit}\n\n${codes.join("\n")}`);
  return `${made("src/errors.ts")}
# Errors and exit statuses

An error is one line with its code in brackets, the causes below it, and a hint. With \`--json\` it is one JSON object on
stderr: \`{"error":{"code","message","causes","hint","details","exit"}}\`. Codes are stable. Seawall itself retries what is
marked so, within written limits, before it gives up.

| exit | meaning |
| ---: | --- |
${exits.map(([exit, meaning]) => `| ${exit} | ${meaning} |`).join("\n")}

Each command's own statuses stand in its \`--help\`.

${sections.join("\n")}`;
}

function errorSection(code: string, kind: ErrorKind): string {
  return `### ${code}\n\n${kind.when}\n\n- What to do: ${kind.hint}\n- Retried: ${kind.retryable ? "yes" : "no"}\n`;
}

function metricsPage(): string {
  const rows = Object.values<MetricSpec>(METRICS).map((spec) => {
    const labels = spec.labels.map((label) => `\`${label}\``).join(", ");
    return `| \`${spec.name}\` | ${spec.type} | ${labels} | ${spec.help} |`;
  });
  return `${made("src/metrics/table.ts")}
# Metrics

\`GET /metrics\` on the address of \`--listen\`, in Prometheus' text format. Every sample also carries \`cluster\`; where the file
has \`clusters:\`, those of the process as a whole do not (build, configuration, \`process_…\`, \`nodejs_…\`). A value
that is not known has no sample, which is not the same as 0. LSNs are byte positions, so that differences and rates are
plain PromQL. The usual \`process_…\` and \`nodejs_…\` metrics are there too.

| name | type | labels | meaning |
| --- | --- | --- | --- |
${rows.join("\n")}
`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function quoted(text: string | undefined): string | undefined {
  return text === undefined ? undefined : `\`${text}\``;
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  for (const { path, content } of referencePages()) {
    writeFileSync(new URL(`../../${path}`, import.meta.url), content);
    console.log(`wrote ${path}`);
  }
}
