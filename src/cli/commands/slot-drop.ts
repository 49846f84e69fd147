/** `seawall slot drop`: drops the slot. */
import { EXIT } from "../../error-kinds.ts";
import { hasCode } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { NoticeLimit } from "../../replication/notice-limit.ts";
import { type CommandContext, connectionSettings, printResult } from "../context.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals } = context;
  const { dropped, server } = await dropSlot(context, signals.stop);
  const name = settings.slot;
  const text = dropped
    ? `dropped replication slot "${name}" on ${server}`
    : `there is no replication slot "${name}" on ${server}`;
  await printResult(context, { slot: { name, dropped } }, text);
  return dropped || settings.ifExists ? EXIT.done : EXIT.no;
}

export async function dropSlot(
  context: CommandContext,
  signal: AbortSignal,
): Promise<{ readonly dropped: boolean; readonly server: string }> {
  await using connection = await ReplicationConnection.connect(await connectionSettings(context), {
    signal,
    onWarning: new NoticeLimit({ tell: (text) => context.log.warn(text), nowMs: () => performance.now() }).say,
  });
  return { dropped: await drop(connection, context.settings.slot), server: connection.server };
}

async function drop(connection: ReplicationConnection, name: string): Promise<boolean> {
  // Looked at first: DROP_REPLICATION_SLOT would drop a logical slot as well, and readSlot refuses those.
  if ((await connection.readSlot(name)) === undefined) return false;
  try {
    await connection.dropSlot(name);
    return true;
  } catch (error) {
    if (hasCode(error, "slot-missing")) return false;
    throw error;
  }
}
