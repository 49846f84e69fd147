/** `seawall slot drop`: drops the slot. */
import { EXIT } from "../../error-kinds.ts";
import { hasCode } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { NoticeLimit } from "../../replication/notice-limit.ts";
import { type CommandContext, connectionSettings, printResult } from "../context.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, log } = context;
  const name = settings.slot;
  await using connection = await ReplicationConnection.connect(await connectionSettings(context), {
    signal: signals.stop,
    onWarning: new NoticeLimit({ tell: (text) => log.warn(text), nowMs: () => performance.now() }).say,
  });
  const dropped = await drop(connection, name);
  const text = dropped
    ? `dropped replication slot "${name}" on ${connection.server}`
    : `there is no replication slot "${name}" on ${connection.server}`;
  await printResult(context, { slot: { name, dropped } }, text);
  return dropped || settings.ifExists ? EXIT.done : EXIT.no;
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
