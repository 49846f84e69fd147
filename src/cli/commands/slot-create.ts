/** `seawall slot create`: makes the slot, or finds it. */
import { EXIT } from "../../error-kinds.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { NoticeLimit } from "../../replication/notice-limit.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { type CommandContext, connectionSettings, printResult } from "../context.ts";

export async function run(context: CommandContext): Promise<number> {
  const { server, ...slot } = await ensureSlot(context);
  const { name, created, restartLsn } = slot;
  const text = created
    ? `created physical replication slot "${name}" on ${server}: WAL is kept from ${restartLsn} on`
    : `physical replication slot "${name}" is already there on ${server}: WAL is kept from ${restartLsn} on`;
  await printResult(context, { slot }, text);
  return EXIT.done;
}

export interface EnsuredSlot {
  readonly name: string;
  readonly created: boolean;
  readonly restartLsn: string;
  readonly server: string;
}

/** Makes the slot, or finds it. Throws `slot-invalidated` when it is there and keeps no WAL, and what the server says. */
export async function ensureSlot(context: CommandContext): Promise<EnsuredSlot> {
  const { settings, signals, log } = context;
  const name = settings.slot;
  await using connection = await ReplicationConnection.connect(await connectionSettings(context), {
    signal: signals.stop,
    onWarning: new NoticeLimit({ tell: (text) => log.warn(text), nowMs: () => performance.now() }).say,
  });
  const before = await connection.readSlot(name);
  const created = before === undefined && (await create(connection, name));
  const restartLsn = (before ?? (await connection.readSlot(name)))?.restartLsn;
  if (restartLsn === undefined) {
    throw new SeawallError("slot-invalidated", `the replication slot "${name}" is there but keeps no WAL`, {
      hint: "It was made without reserving WAL and never used, or the server gave it up: drop it and create it again.",
    });
  }
  return { name, created, restartLsn: formatLsn(restartLsn), server: connection.server };
}

/** False when another process made it first. */
async function create(connection: ReplicationConnection, name: string): Promise<boolean> {
  try {
    await connection.createPhysicalSlot(name, { reserveWal: true });
    return true;
  } catch (error) {
    if (hasCode(error, "slot-exists")) return false;
    throw error;
  }
}
