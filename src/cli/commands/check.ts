/** `seawall check`: checks everything that `receive` needs; one line each, with its remedy. */
import { EXIT } from "../../error-kinds.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import { allPassed, findingsText, serverCheck, spoolFindings, storeFindings } from "../check/run.ts";
import { type CommandContext, connectionSettings } from "../context.ts";

/** Clusters that are checked at the same time: a check waits for its server and its store. */
const CHECKS_MAX = 8;

export const run = onClusters(checked, { inFlight: CHECKS_MAX });

async function checked(context: CommandContext): Promise<Report> {
  const server = await serverCheck(context, await connectionSettings(context));
  const findings = [
    ...server.findings,
    ...(await spoolFindings(context, server)),
    ...(await storeFindings(context, server)),
  ];
  const ok = allPassed(findings);
  return {
    json: { ok, findings },
    text: findingsText(findings, context.io),
    exit: ok ? EXIT.done : EXIT.no,
  };
}
