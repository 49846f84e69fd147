/** The files that `seawall init` writes: what stands in each. Pure. */
import { join } from "node:path";
import { roleScript, hbaLine, type HbaClient, type RolePassword } from "../../replication/server-setup.ts";
import { policyOf, rightsOfRole, S3_ROLES, type S3Place } from "../s3-rights.ts";

export interface InitFile {
  readonly path: string;
  /** Its use, in a few words. */
  readonly purpose: string;
  readonly content: string;
  readonly mode: number;
  /** Never shown. */
  readonly isSecret: boolean;
}

const PRIVATE = 0o600;
const OPEN = 0o644;

/** The paths beside the configuration file: absolute. */
export interface InitPaths {
  readonly config: string;
  readonly passfile: string;
  /** The folder of everything that is to be done elsewhere. */
  readonly setup: string;
}

export function pathsBeside(config: string): InitPaths {
  const stem = config.replace(/\.ya?ml$/i, "");
  return { config, passfile: `${stem}.pgpass`, setup: `${stem}.setup` };
}

export interface ConfigValues {
  readonly dsn: string;
  readonly store: string;
  readonly cluster: string;
  readonly slot: string;
}

/** The configuration file, whose lines in comments can be used as they are. */
export function configText({ dsn, store, cluster, slot }: ConfigValues): string {
  return `# Written by seawall init. docs/configuration.md has every option.
dsn: ${JSON.stringify(dsn)}
store: ${JSON.stringify(store)}
cluster: ${JSON.stringify(cluster)}
slot: ${JSON.stringify(slot)}

# Jobs beside "seawall receive". Remove the "#" of those that you want.
# backup-schedule: "0 2 * * *"       # a base backup every night
# recovery-window: 14d               # what expire keeps: every moment of two weeks
# expire-schedule: "0 4 * * *"
# verify-schedule: "0 5 * * *"
# drill-schedule: "0 6 * * 0"        # a test restore every Sunday; needs PostgreSQL's programs here
`;
}

/** The password makes the file secret even where it is within the string. */
export function configFile(path: string, values: ConfigValues): InitFile {
  const isSecret = /password\s*=|:\/\/[^/@]*:[^/@]*@/i.test(values.dsn);
  const mode = isSecret ? PRIVATE : OPEN;
  return { path, purpose: "the configuration", content: configText(values), mode, isSecret };
}

export function passwordFile(path: string, content: string): InitFile {
  return { path, purpose: "the role's password", content, mode: PRIVATE, isSecret: true };
}

export function roleFile(setup: string, user: string, password: RolePassword): InitFile {
  const content = roleScript(user, password);
  // A verifier lets its reader try passwords.
  const mode = password.kind === "verifier" ? PRIVATE : OPEN;
  return { path: join(setup, "role.sql"), purpose: "SQL that makes the role", content, mode, isSecret: false };
}

export function hbaFile(setup: string, user: string, database: string, client: HbaClient): InitFile {
  const content = [
    "# Lines for pg_hba.conf, above any line that fits and refuses. Then reload: SELECT pg_reload_conf();",
    "# The first is for the stream, the second for ordinary connections that watch the slot.",
    ...hbaNotes(client),
    hbaLine(user, "replication", client),
    hbaLine(user, database, client),
    "",
  ].join("\n");
  const purpose = "lines for pg_hba.conf";
  return { path: join(setup, "pg_hba.conf"), purpose, content, mode: OPEN, isSecret: false };
}

function hbaNotes(client: HbaClient): string[] {
  if (client.kind === "local") return [];
  return [
    ...(client.address === "samenet"
      ? ["# samenet: every network that the server itself is in. Narrow it to one address where you can."]
      : ["# Behind NAT the server sees another address: its log names it."]),
    ...(client.tls
      ? [
          "# hostssl takes connections with TLS alone. Without TLS on the server, only host fits: keep that network private.",
        ]
      : []),
  ];
}

/** The roles that an archive needs every day, each with a policy of its own. */
const ROLES = ["receiver", "keeper", "restorer", "read-only"];

export function policyFiles(setup: string, place: S3Place): InitFile[] {
  return S3_ROLES.filter(({ name }) => ROLES.includes(name)).map((role) => {
    const document = { Version: "2012-10-17", Statement: policyOf(rightsOfRole(role), place) };
    return {
      path: join(setup, `s3-${role.name}.json`),
      purpose: `S3 policy of the ${role.name}: it ${role.does}`,
      content: `${JSON.stringify(document, undefined, 2)}\n`,
      mode: OPEN,
      isSecret: false,
    };
  });
}

export function findingsFile(setup: string, text: string): InitFile {
  const path = join(setup, "check.txt");
  return { path, purpose: "findings of the checks, with remedies", content: `${text}\n`, mode: OPEN, isSecret: false };
}
