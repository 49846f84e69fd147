/** The three commands that `seawall init` ends with: lines for a shell that work when they are pasted. Pure. */
import { shellWord } from "../../restore/restore-command.ts";

/** The way to the server with psql, for a superuser. */
export interface SuperuserWay {
  readonly host: string;
  readonly port: number;
  /** The folder of the server's socket on this machine; undefined for a server elsewhere. */
  readonly socket: string | undefined;
  /** This process's account. */
  readonly account: string | undefined;
}

export interface NextFacts {
  /** How the user starts the program: `seawall`, `npx seawall`. */
  readonly program: string;
  readonly config: string;
  readonly ok: boolean;
  readonly hasBackup: boolean;
  readonly roleFile: string | undefined;
  /** Words of the command that looks again; undefined where the server answered. */
  readonly again?: readonly string[] | undefined;
  /** Set where the server refuses the address. */
  readonly hbaFile: string | undefined;
  readonly way: SuperuserWay;
}

export interface NextCommand {
  readonly line: string;
  readonly does: string;
}

export function nextCommands(facts: NextFacts): readonly NextCommand[] {
  const { program, ok, hasBackup } = facts;
  const config = ` --config ${shellWord(facts.config)}`;
  const receive = { line: `${program} receive${config} &`, does: "streams WAL until it is stopped" };
  const backup = { line: `${program} backup${config} --checkpoint fast`, does: "takes a base backup" };
  const list = { line: `${program} list${config}`, does: "says from when to when the cluster can be restored" };
  const restore = {
    line: `${program} restore${config} --target-dir ./restored --dry-run`,
    does: "says what a restore would do",
  };
  if (ok) return hasBackup ? [receive, list, restore] : [receive, backup, list];
  const check =
    facts.again === undefined
      ? { line: `${program} check${config}`, does: "checks again" }
      : {
          line: [program, ...facts.again.map(shellWord)].join(" "),
          does: "once the server answers: makes its files too",
        };
  const setup = [...hbaCommand(facts), ...roleCommand(facts)];
  return [...setup, check, receive, backup].slice(0, 3);
}

/** Psql as a superuser of the server: by its socket where this machine has it, otherwise as the role postgres. */
function roleCommand({ roleFile, way }: NextFacts): readonly NextCommand[] {
  if (roleFile === undefined) return [];
  const does = "makes the role, and reloads pg_hba.conf";
  if (way.socket === undefined) {
    const line = `psql -X -h ${shellWord(way.host)} -p ${way.port} -U postgres -d postgres -f ${shellWord(roleFile)}`;
    return [{ line, does }];
  }
  return [{ line: `${asPostgres(way)}${localPsql(way)} -d postgres < ${shellWord(roleFile)}`, does }];
}

/**
 * Only on the server's own machine: pg_hba.conf is a file there. The lines go to its beginning, because the first line that fits
 * decides (docs: The pg_hba.conf File).
 */
function hbaCommand({ hbaFile, way }: NextFacts): readonly NextCommand[] {
  if (hbaFile === undefined || way.socket === undefined) return [];
  const file = `f="$(${localPsql(way)} -d postgres -Atc 'SHOW hba_file')"`;
  const insert = `${file} && cp -p "$f" "$f.before-seawall" && cat - "$f.before-seawall" > "$f"`;
  const does = "lets the role in; pg_hba.conf.before-seawall is the file as it was";
  return [{ line: `${asPostgres(way)}sh -c ${shellWord(insert)} < ${shellWord(hbaFile)}`, does }];
}

function localPsql({ socket = "", port }: SuperuserWay): string {
  return `psql -X -h ${shellWord(socket)} -p ${port}`;
}

function asPostgres({ account }: SuperuserWay): string {
  if (account === "postgres") return "";
  return account === "root" ? "runuser -u postgres -- " : "sudo -u postgres ";
}

export interface ProgramFacts {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly node: string;
  readonly script: string;
  /** Whether a folder of PATH has a program of this name. */
  readonly isInPath: (name: string) => boolean;
}

/** How the user's shell starts this program. Below npx and npm, PATH is not that of the shell. */
export function programName({ env, node, script, isInPath }: ProgramFacts): string {
  const npm = env["npm_command"] ?? "";
  if (npm === "exec") return "npx seawall";
  if (npm === "" && isInPath("seawall")) return "seawall";
  return `${shellWord(node)} ${shellWord(script)}`;
}
