/** `seawall status`: where every byte is, from the running receiver, or from the server and the store without one. */
import { EXIT } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { humanBytes, humanSeconds, versionText } from "../daemon/human.ts";
import { askReceiver } from "../daemon/status-client.ts";
import type { JobView } from "../daemon/scheduler.ts";
import type { StatusDocument } from "../daemon/status-document.ts";
import { bytesBetween, parseLsn } from "../wal/lsn.ts";
import { type CommandContext, connectionSettings, openPatientStore, printResult } from "./context.ts";
import { type Colour, columns, painted } from "./table.ts";
import { seawallVersion } from "./version.ts";

const ASK_TIMEOUT_MS = 2_000;
const LOOK_TIMEOUT_MS = 30_000;

export async function run(context: CommandContext): Promise<number> {
  const { settings, origins } = context;
  let reason = "--listen is off";
  if (settings.listen.kind !== "off") {
    const answer = await askReceiver(settings.listen, ASK_TIMEOUT_MS);
    if (answer.kind === "answered") {
      const asked = origins.get("cluster") !== "default";
      if (!asked || answer.status.cluster === settings.cluster) {
        const status = { ...answer.status, archive: await lookAtArchive(context, answer.status) };
        await printResult(context, status, renderStatus(status, context.io.colours));
        return EXIT.done;
      }
      reason = `the receiver there serves cluster "${answer.status.cluster}"`;
    } else {
      reason = answer.reason;
    }
  }
  const status = await lookWithoutReceiver(context, reason);
  const note = `No receiver answers (${reason}): this is what server and store say themselves.\n\n`;
  await printResult(context, status, note + renderStatus(status, context.io.colours));
  return EXIT.done;
}

/** The receiver does not look for what others did with its archive; we do, where we know the store. */
async function lookAtArchive(context: CommandContext, status: StatusDocument): Promise<StatusDocument["archive"]> {
  const { settings, signals, log } = context;
  if (settings.store === undefined) return null;
  const { openArchive } = await import("../archive/archive.ts");
  const { readLastEvents } = await import("../archive/last-events.ts");
  const store = await openPatientStore(context, settings.store, { interactive: true });
  const signal = AbortSignal.any([signals.stop, AbortSignal.timeout(LOOK_TIMEOUT_MS)]);
  try {
    return await readLastEvents(await openArchive(store, status.cluster, { signal }), { signal });
  } catch (error) {
    log.warn("cannot look at the archive", { error });
    return null;
  } finally {
    await store.close();
  }
}

async function lookWithoutReceiver(context: CommandContext, reason: string): Promise<StatusDocument> {
  const { settings, origins, env, signals } = context;
  // An explicit wish to connect; libpq's defaults alone would ask some local server that nobody meant.
  const wantsServer = settings.dsn !== undefined || ["PGHOST", "PGHOSTADDR", "PGSERVICE"].some((name) => env[name]);
  if (!wantsServer && settings.store === undefined) {
    const configured = origins.get("listen") !== "default";
    throw new SeawallError("receiver-unreachable", `no receiver answers: ${reason}`, {
      hint: configured
        ? "Start it, or give --dsn and --store to look at the server and the archive without it."
        : "Give its --listen address, or --dsn and --store to look at the server and the archive without it.",
    });
  }
  const { lookFromOutside } = await import("../daemon/outside-view.ts");
  const connection = wantsServer ? await connectionSettings(context) : undefined;
  const store =
    settings.store === undefined ? undefined : await openPatientStore(context, settings.store, { interactive: true });
  try {
    const { status, failures } = await lookFromOutside({
      cluster: settings.cluster,
      slot: settings.noSlot ? undefined : settings.slot,
      connection,
      store,
      version: seawallVersion(),
      nowMs: () => Date.now(),
      signal: AbortSignal.any([signals.stop, AbortSignal.timeout(LOOK_TIMEOUT_MS)]),
    });
    const wanted = (connection === undefined ? 0 : 1) + (store === undefined ? 0 : 1);
    if (failures.length === wanted) throw failures[0];
    return status;
  } finally {
    await store?.close();
  }
}

export function renderStatus(status: StatusDocument, colours: boolean): string {
  const rows: string[][] = [
    ["cluster", [status.cluster, identity(status)].filter(Boolean).join(", ")],
    ["state", painted(status.state, toneOf(status.state), colours) + since(status)],
    ["server", serverText(status)],
    ["store", status.store ?? "–"],
    ["", ""],
    ["written", status.serverLsn ?? "–", "by the server"],
    ["received", status.receivedLsn ?? "–", behind(status.serverLsn, status.receivedLsn)],
    ["verified", status.verifiedLsn ?? "–", behind(status.receivedLsn, status.verifiedLsn)],
    ["stored", status.storedLsn ?? "–", behind(status.verifiedLsn ?? status.serverLsn, status.storedLsn)],
    ["", ""],
    ["lag", status.lagBytes === null ? "–" : humanBytes(status.lagBytes)],
    ["recovery point", recoveryPoint(status)],
    ["slot", slotText(status, colours)],
    ...spoolRow(status),
    ["gaps", gapsText(status, colours)],
    ...archiveRows(status, colours),
    ...counterRows(status),
    ...status.jobs.map((job) => [job.job, jobText(job, colours)]),
    ...status.errors.slice(0, 1).map((error) => ["last error", `${error.at} ${error.message} [${error.code}]`]),
  ];
  return columns(rows).join("\n");
}

function identity(status: StatusDocument): string {
  const parts = [
    status.systemIdentifier === null ? "" : `system identifier ${status.systemIdentifier}`,
    status.timeline === null ? "" : `timeline ${status.timeline}`,
  ];
  return parts.filter(Boolean).join(", ");
}

function toneOf(state: StatusDocument["state"]): Colour {
  if (state === "streaming") return "green";
  return state === "failed" || state === "stopped" || state === "unreachable" ? "red" : "yellow";
}

function since(status: StatusDocument): string {
  return status.state === "streaming" && status.streamingSince !== null ? ` since ${status.streamingSince}` : "";
}

function serverText(status: StatusDocument): string {
  if (status.server === null) return "–";
  return status.serverVersion === null
    ? status.server
    : `${status.server}, PostgreSQL ${versionText(status.serverVersion)}`;
}

function behind(before: string | null, lsn: string | null): string {
  if (before === null || lsn === null) return "";
  const bytes = bytesBetween(parseLsn(lsn), parseLsn(before));
  return bytes <= 0 ? "up to date" : `${humanBytes(bytes)} behind`;
}

function recoveryPoint(status: StatusDocument): string {
  return status.rpoSeconds === null ? "–" : `${humanSeconds(status.rpoSeconds)} (age of the oldest commit not stored)`;
}

function slotText({ slot }: StatusDocument, colours: boolean): string {
  if (slot === null) return "–";
  if (!slot.exists) return painted(`${slot.name}: missing on the server`, "red", colours);
  const kept = slot.retainedBytes === null ? "" : `, ${humanBytes(slot.retainedBytes)} of WAL kept`;
  const room = slot.safeBytes === null ? "" : `, ${humanBytes(Math.max(0, slot.safeBytes))} until it is given up`;
  const text = `${slot.name}: ${slot.walStatus ?? "keeps no WAL"}${kept}${room}`;
  return slot.walStatus === "lost" || slot.walStatus === "unreserved" ? painted(text, "red", colours) : text;
}

function spoolRow({ spoolBytes, spoolLimitBytes, uploadedLsn }: StatusDocument): string[][] {
  if (spoolBytes === null || spoolLimitBytes === null) return [];
  const uploaded = `the store has all before ${uploadedLsn ?? "–"}`;
  return [["spool", `${humanBytes(spoolBytes)} of ${humanBytes(spoolLimitBytes)}; ${uploaded}`]];
}

function gapsText({ gaps }: StatusDocument, colours: boolean): string {
  if (gaps.length === 0) return "none";
  const text = gaps
    .map((gap) => `${gap.fromLsn} to ${gap.toLsn} on timeline ${gap.timeline} (${gap.reason})`)
    .join("; ");
  return painted(text, "red", colours);
}

function archiveRows({ archive }: StatusDocument, colours: boolean): string[][] {
  if (archive === null) return [];
  const { backup, verify, drill } = archive;
  const outcome = (ok: boolean, text: string): string => painted(text, ok ? "green" : "red", colours);
  const problems = verify === null || verify.problems === 1 ? "1 problem" : `${verify.problems} problems`;
  return [
    ["last backup", backup === null ? "none" : `${backup.finishedAt}, ${humanBytes(backup.bytes)}, ${backup.id}`],
    [
      "last verify",
      verify === null
        ? "none"
        : `${verify.finishedAt}${verify.deep ? ", deep" : ""}: ${outcome(verify.ok, verify.ok ? "ok" : problems)}`,
    ],
    ["last drill", drill === null ? "none" : `${drill.finishedAt}: ${outcome(drill.ok, drill.ok ? "ok" : "failed")}`],
  ];
}

function counterRows({ counters }: StatusDocument): string[][] {
  if (counters === null) return [];
  const { receivedBytes, segmentsSealed, chunksStored, reconnects } = counters;
  return [
    [
      "since start",
      `${humanBytes(receivedBytes)} received, ${segmentsSealed} segments sealed, ${chunksStored} chunks stored, ${reconnects} reconnects`,
    ],
  ];
}

function jobText({ schedule, timeZone, runningSince, nextAt, last }: JobView, colours: boolean): string {
  const when = runningSince === null ? `next ${nextAt ?? "never"}` : `running since ${runningSince}`;
  const outcome = last === null ? "" : painted(last.ok ? "ok" : "failed", last.ok ? "green" : "red", colours);
  const before = last === null ? "not run yet" : `last ${last.finishedAt}: ${outcome}, ${last.message}`;
  return `${schedule} (${timeZone}); ${when}; ${before}`;
}
