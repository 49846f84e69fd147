/** `seawall check`: checks everything that `receive` needs; one line each, with its remedy. */
import { totalmem } from "node:os";
import { resolve } from "node:path";
import { EXIT } from "../../error-kinds.ts";
import type { Finding, Verdict } from "../check/findings.ts";
import { checkServer, type ServerCheck } from "../check/server.ts";
import { checkSpool, checkStore } from "../check/store.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import { type CommandContext, connectionSettings, openPatientStore } from "../context.ts";
import { counted } from "../../plural.ts";
import { type Colour, painted } from "../views/painted.ts";
import { type Look, rowBlocks, wrapped } from "../views/layout.ts";

/** Clusters that are checked at the same time: a check waits for its server and its store. */
const CHECKS_MAX = 8;

export const run = onClusters(checked, { inFlight: CHECKS_MAX });

async function checked(context: CommandContext): Promise<Report> {
  const { settings, signals } = context;
  const wishes = {
    slot: settings.noSlot ? undefined : settings.slot,
    allowsNewer: settings.allowNewerServer,
    statusIntervalMs: settings.statusIntervalMs,
    memory: { bufferBytesMax: settings.bufferMaxBytes, bufferSegments: settings.bufferSegments },
    hasSpool: settings.durability === "spool",
    memoryLimitBytes: memoryLimit(),
  };
  const server = await checkServer(await connectionSettings(context), wishes, signals.stop);
  const findings = [
    ...server.findings,
    ...(await spoolFindings(context, server)),
    ...(await storeFindings(context, server)),
  ];
  const ok = findings.every(({ verdict }) => verdict !== "fail");
  return {
    json: { ok, findings },
    text: render(findings, context.io),
    exit: ok ? EXIT.done : EXIT.no,
  };
}

/** Reads the memory limit of this process's control group; without one, the machine's memory. */
function memoryLimit(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}

async function spoolFindings(
  { settings, signals }: CommandContext,
  { identity }: Pick<ServerCheck, "identity">,
): Promise<Finding[]> {
  const { spoolDir, spoolMaxBytes: spoolBytesMax } = settings;
  if (spoolDir === undefined) return [];
  const limits = { spoolBytesMax, segmentSize: identity?.segmentSize };
  return checkSpool(resolve(spoolDir), limits, signals.stop);
}

async function storeFindings(
  context: CommandContext,
  { identity, joining }: Omit<ServerCheck, "findings">,
): Promise<Finding[]> {
  const { settings, signals } = context;
  if (settings.store === undefined) {
    return [{ group: "store", name: "store", verdict: "skip", message: "not checked", remedy: "Give --store." }];
  }
  const store = await openPatientStore(context, settings.store, { interactive: true });
  try {
    return await checkStore({ store, cluster: settings.cluster, identity, joining, signal: signals.stop });
  } finally {
    await store.close();
  }
}

const TONE: Readonly<Record<Verdict, Colour>> = { ok: "green", warn: "yellow", fail: "red", skip: "dim" };

function render(findings: readonly Finding[], { colours, width }: Look): string {
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
