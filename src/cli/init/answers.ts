/** The server, the store and the cluster's name for `seawall init`: from options, or from questions on a terminal. All are checked before anything is touched. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { OPTIONS } from "../../config/options.ts";
import { BadValue } from "../../config/types.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { formatConninfo, parseConninfoText } from "../../replication/conninfo-text.ts";
import { openStore } from "../../store/open.ts";
import { type CommandContext, connectionSettings } from "../context.ts";

export interface Answers {
  readonly dsn: string;
  readonly store: string;
  readonly cluster: string;
  /** The user was asked, and may be asked more. */
  readonly wasAsked: boolean;
}

/** A question that is answered wrongly so often ends the command. */
const TRIES_MAX = 5;
const DEFAULT_SERVER = "127.0.0.1";

/** Throws `usage` for a wrong value, and for missing ones without a terminal. */
export async function answersOf(context: CommandContext): Promise<Answers> {
  const { settings, origins, io } = context;
  const missing = [settings.dsn === undefined ? "--dsn" : "", settings.store === undefined ? "--store" : ""];
  const flags = missing.filter((flag) => flag !== "");
  if (flags.length > 0 && io.ask === undefined) {
    throw new SeawallError("usage", `seawall init needs ${flags.join(" and ")}`, {
      hint: `Give ${flags.length === 1 ? "it as a flag" : "them as flags"}; on a terminal seawall init asks.`,
    });
  }
  const dsn = settings.dsn ?? (await ask(context, serverQuestion));
  await checkDsn(context, dsn);
  const store = settings.store ?? (await askForStore(context));
  await checkStoreUrl(context, store);
  const isNamed = flags.length === 0 || origins.get("cluster") !== "default";
  const cluster = isNamed ? settings.cluster : await ask(context, clusterQuestion(settings.cluster));
  checkCluster(cluster);
  return { dsn, store, cluster, wasAsked: flags.length > 0 };
}

interface Question {
  readonly text: string;
  /** The answer as the option's value. Throws `usage` or `BadValue`. */
  readonly read: (answer: string, context: CommandContext) => Promise<string> | string;
}

/** Asks until the answer can be used. Throws `usage` after the fifth wrong one, and where the input ends. */
async function ask(context: CommandContext, { text, read }: Question): Promise<string> {
  const { io, signals } = context;
  for (let tries = 1; io.ask !== undefined; tries += 1) {
    const answer = await io.ask(text, { signal: signals.stop });
    try {
      return await read(answer.trim(), context);
    } catch (error) {
      const isWrong = error instanceof BadValue || hasCode(error, "usage");
      if (!isWrong || tries === TRIES_MAX) throw asUsage(error);
      io.err(`${error.message}. ${error.hint}\n`);
    }
  }
  throw new SeawallError("internal", "there is no terminal to ask on");
}

function asUsage(error: unknown): unknown {
  return error instanceof BadValue ? new SeawallError("usage", error.message, { hint: error.hint }) : error;
}

const serverQuestion: Question = {
  text: `Server (host, host:port, or a connection string) [${DEFAULT_SERVER}]: `,
  read: async (answer, context) => {
    const dsn = asConninfo(answer === "" ? DEFAULT_SERVER : answer);
    await checkDsn(context, dsn);
    return dsn;
  },
};

/** Whole connection strings stay as they are; a host, a host with a port, and the folder of a socket become one. */
export function asConninfo(answer: string): string {
  if (answer.includes("=") || answer.includes("://")) return answer;
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(answer);
  if (match === null) return formatConninfo([["host", answer.replace(/^\[(.*)\]$/, "$1")]]);
  const [, ipv6, host = "", port = ""] = match;
  return formatConninfo([
    ["host", ipv6 ?? host],
    ["port", port],
  ]);
}

async function askForStore(context: CommandContext): Promise<string> {
  const url = await ask(context, {
    text: "Store (a directory, or s3://bucket/prefix): ",
    read: async (answer) => {
      const given = /^[a-z0-9]+:\/\//i.test(answer) ? answer : pathUrl(answer);
      await checkStoreUrl(context, given);
      return given;
    },
  });
  if (!url.startsWith("s3://") || url.includes("?")) return url;
  const endpoint = await ask(context, {
    text: "Endpoint of an S3 server that is not Amazon's, such as https://s3.example.com [none]: ",
    read: async (answer) => withParameters(context, url, { endpoint: answer }),
  });
  return ask(context, {
    text: "Region [as the AWS SDK finds it]: ",
    read: async (answer) => withParameters(context, endpoint, { region: answer }),
  });
}

function pathUrl(path: string): string {
  if (path === "") throw new BadValue("the answer is empty", "Name a directory, or a bucket as s3://bucket/prefix.");
  return pathToFileURL(resolve(path)).href;
}

async function withParameters(
  context: CommandContext,
  url: string,
  parameters: Readonly<Record<string, string>>,
): Promise<string> {
  const given = new URL(url);
  for (const [name, value] of Object.entries(parameters)) if (value !== "") given.searchParams.set(name, value);
  await checkStoreUrl(context, given.href);
  return given.href;
}

function clusterQuestion(proposal: string): Question {
  return {
    text: `Name of the cluster in the store [${proposal}]: `,
    read: (answer) => {
      const cluster = OPTIONS.cluster.parse(answer === "" ? proposal : answer);
      checkCluster(cluster);
      return cluster;
    },
  };
}

async function checkDsn(context: CommandContext, dsn: string): Promise<void> {
  OPTIONS.dsn.parse(dsn);
  parseConninfoText(dsn);
  await connectionSettings(context, dsn);
}

async function checkStoreUrl({ env }: CommandContext, url: string): Promise<void> {
  OPTIONS.store.parse(url);
  await openStore(url, { env }).close();
}

function checkCluster(cluster: string): void {
  if (!cluster.includes("@")) return;
  throw new SeawallError("usage", `--cluster: "${cluster}" is one generation of a cluster`, {
    hint: `Name the cluster: ${cluster.split("@")[0] ?? ""}.`,
  });
}
