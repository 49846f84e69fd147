/** `seawall cluster upgrade`: declares a server with a new system identifier as the next generation of its cluster. */
import type { Archive } from "../../archive/archive.ts";
import type { ClusterIdentity } from "../../archive/documents.ts";
import { declareSuccessor, planSuccessor, type SuccessorPlan } from "../../archive/successor.ts";
import { readStoreClock } from "../../archive/store-clock.ts";
import { Codec } from "../../codec/codec.ts";
import { parseGivenName } from "../../archive/keys.ts";
import { readBackupServer } from "../../backup/server.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { type CommandContext, connectionSettings, openPatientStore, printResult, requiredStore } from "../context.ts";
import { askPassphrase, identitiesOf } from "../keys.ts";
import { columns } from "../views/layout.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals } = context;
  const { cluster, generation } = parseGivenName(settings.cluster);
  if (generation !== undefined) {
    throw new SeawallError(
      "usage",
      `--cluster ${settings.cluster} names a generation, and the next one gets its number by itself`,
      {
        hint: `Name the cluster: --cluster ${cluster}.`,
      },
    );
  }
  const codec = new Codec({ identities: await identitiesOf(settings, askPassphrase(context)) });
  const server = await askServer(context);
  const store = await openPatientStore(context, requiredStore(context), { interactive: true });
  try {
    const request = { signal: signals.stop };
    // A dry run writes nothing, so it has this machine's clock alone.
    const readNow = settings.dryRun ? undefined : async (of: Archive) => readStoreClock(store, of.cluster, request);
    const plan = await planSuccessor(store, cluster, server, { ...request, codec, force: settings.force, readNow });
    if (plan.kind === "successor" && !settings.dryRun) {
      refuse(plan);
      await declareSuccessor(store, plan, server, { ...request, codec });
    }
    await printResult(context, planJson(context, plan), planText(context, plan, server));
    return EXIT.done;
  } finally {
    await store.close();
  }
}

/** The identity of the server of --dsn. */
async function askServer(context: CommandContext): Promise<ClusterIdentity> {
  const settings = await connectionSettings(context);
  await using connection = await ReplicationConnection.connect(settings, { signal: context.signals.stop });
  const { systemIdentifier, segmentSize, pgMajor } = await readBackupServer(connection);
  return { systemIdentifier, segmentSize, pgMajor, createdAt: new Date().toISOString() };
}

function refuse({ name, before, obstacles }: SuccessorPlan & { readonly kind: "successor" }): void {
  if (obstacles.length === 0) return;
  throw new SeawallError("cluster-protected", `${name} is not declared: ${obstacles.join("; ")}`, {
    hint:
      `Is the --dsn the upgraded server? Then start the server of ${before.name} and its receiver once more, wait until it streams, and stop the ` +
      "server first. If that server is gone for good, --force declares the generation all the same, two minutes after the last WAL.",
  });
}

function planJson({ settings }: CommandContext, plan: SuccessorPlan): Record<string, unknown> {
  if (plan.kind === "current") {
    const { name, identity } = plan.generation;
    return { generation: name, declared: false, systemIdentifier: identity.systemIdentifier.toString(), obstacles: [] };
  }
  const { name, before, end, obstacles } = plan;
  return {
    generation: name,
    declared: !settings.dryRun,
    dryRun: settings.dryRun,
    follows: before.name,
    end: end === undefined ? null : { ...end, lsn: formatLsn(end.lsn) },
    obstacles,
  };
}

function planText({ settings, io }: CommandContext, plan: SuccessorPlan, server: ClusterIdentity): string {
  if (plan.kind === "current") return `The server belongs to ${plan.generation.name} already, the newest generation.`;
  const { name, before, end, obstacles } = plan;
  const ended =
    end === undefined
      ? "without WAL"
      : `at ${formatLsn(end.lsn)}${end.isShutdown ? ", with the orderly shutdown of its server" : ""}`;
  const rows = columns(
    [
      [
        before.name,
        `PostgreSQL ${before.identity.pgMajor}, system identifier ${before.identity.systemIdentifier}, ends ${ended}`,
      ],
      [name, `PostgreSQL ${server.pgMajor}, system identifier ${server.systemIdentifier}`],
    ],
    io.width,
  );
  const next = settings.dryRun
    ? obstacles.length === 0
      ? [`To declare ${name}: leave out --dry-run.`]
      : ["It would be refused:", ...obstacles.map((obstacle) => `  ${obstacle}`)]
    : [`${name} is declared. Start seawall receive as before, then take a base backup: seawall backup.`];
  return [...rows, "", ...next].join("\n");
}
