/** Runs the checks of `seawall check`, which `seawall init` runs too, and shows their findings. */
import { totalmem } from "node:os";
import { resolve } from "node:path";
import type { ConnectionSettings } from "../../replication/settings.ts";
import { type CommandContext, openPatientStore } from "../context.ts";
import { recipientsOf } from "../keys.ts";
import { counted } from "../../plural.ts";
import { type Look, rowBlocks, wrapped } from "../views/layout.ts";
import { type Colour, painted } from "../views/painted.ts";
import type { Finding, Verdict } from "./findings.ts";
import { checkServer, type ServerCheck } from "./server.ts";
import { checkSpool, checkStore } from "./store.ts";

export function serverCheck(context: CommandContext, connection: ConnectionSettings): Promise<ServerCheck> {
  const { settings, signals } = context;
  const wishes = {
    slot: settings.noSlot ? undefined : settings.slot,
    allowsNewer: settings.allowNewerServer,
    statusIntervalMs: settings.statusIntervalMs,
    memory: { bufferBytesMax: settings.bufferMaxBytes, bufferSegments: settings.bufferSegments },
    hasSpool: settings.durability === "spool",
    codecThreads: settings.compressThreads,
    memoryLimitBytes: memoryLimit(),
  };
  return checkServer(connection, wishes, signals.stop);
}

/** Reads the memory limit of this process's control group; without one, the machine's memory. */
function memoryLimit(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}

export async function spoolFindings(
  { settings, signals }: CommandContext,
  { identity }: Pick<ServerCheck, "identity">,
): Promise<Finding[]> {
  const { spoolDir, spoolMaxBytes: spoolBytesMax } = settings;
  if (spoolDir === undefined) return [];
  const limits = { spoolBytesMax, segmentSize: identity?.segmentSize };
  return checkSpool(resolve(spoolDir), limits, signals.stop);
}

/** With `--dry-run` the store is only read. */
export async function storeFindings(
  context: CommandContext,
  { identity, joining }: Omit<ServerCheck, "findings">,
): Promise<Finding[]> {
  const { settings, signals } = context;
  if (settings.store === undefined) {
    return [{ group: "store", name: "store", verdict: "skip", message: "not checked", remedy: "Give --store." }];
  }
  const store = await openPatientStore(context, settings.store, { interactive: true });
  try {
    const { cluster, dryRun: isReadOnly } = settings;
    const recipients = (await recipientsOf(settings))?.names;
    return await checkStore({ store, cluster, identity, joining, recipients, isReadOnly, signal: signals.stop });
  } finally {
    await store.close();
  }
}

export function allPassed(findings: readonly Finding[]): boolean {
  return findings.every(({ verdict }) => verdict !== "fail");
}

const TONE: Readonly<Record<Verdict, Colour>> = { ok: "green", warn: "yellow", fail: "red", skip: "dim" };

/** One line for each finding with its remedy below, and the counts. */
export function findingsText(findings: readonly Finding[], { colours, width }: Look): string {
  const rows = findings.map(({ verdict, name, message }) => [painted(verdict, TONE[verdict], colours), name, message]);
  const inner = width === undefined ? undefined : width - 2;
  const lines = rowBlocks(rows, inner).flatMap((block, i) => {
    const finding = findings[i];
    if (finding === undefined) return [];
    const heading = findings[i - 1]?.group === finding.group ? [] : [`${i === 0 ? "" : "\n"}${finding.group}`];
    const remedy = finding.remedy === null ? [] : wrapped(`        → ${finding.remedy}`, width, 10);
    return [...heading, ...block.map((line) => `  ${line}`), ...remedy];
  });
  const count = (verdict: Verdict): number => findings.filter((finding) => finding.verdict === verdict).length;
  lines.push("", `${count("fail")} failed, ${counted(count("warn"), "warning")}, ${count("ok")} ok`);
  return lines.join("\n");
}
