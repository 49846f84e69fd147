/** Asks a running receiver for its status: one GET with a short deadline and a bounded answer. */
import { formatAddress, type ListenAddress } from "../../config/types.ts";
import { http } from "../../node-http.ts";
import { deadline } from "../../signals.ts";
import { judged } from "../health/health.ts";
import type { StatusDocument, StatusOverview } from "./document.ts";

const ANSWER_BYTES_MAX = 4 << 20;
/** The limits of a receiver with default settings. */
const OLDER_LIMITS = { criticalAfterSeconds: 120, storePatienceSeconds: 11, progressMaxSeconds: 300 };

/** Members that a receiver of an older version does not send. */
const NOT_SENT = { slotBudget: null, slotError: null, refusal: null, noReceiver: null };

export type StatusAnswer =
  | { readonly kind: "answered"; readonly status: StatusDocument }
  /** A receiver of several clusters. */
  | { readonly kind: "answered-for-several"; readonly overview: StatusOverview }
  /** No process answers there, or one that is no receiver. */
  | { readonly kind: "no-answer"; readonly reason: string };

/** Never throws. */
export async function askReceiver(listen: ListenAddress, timeoutMs: number): Promise<StatusAnswer> {
  const at = formatAddress(listen);
  try {
    const answer = await get(listen, timeoutMs);
    if (answer.status !== 200) return { kind: "no-answer", reason: `${at} answered ${answer.status}` };
    const document: unknown = JSON.parse(answer.body);
    if (isOverview(document)) {
      const overview = { ...document, clusters: document.clusters.map((status) => completed(status)) };
      return { kind: "answered-for-several", overview };
    }
    if (!isStatus(document)) return { kind: "no-answer", reason: `what answers at ${at} is no receiver` };
    return { kind: "answered", status: completed(document) };
  } catch (error) {
    const reason = error instanceof SyntaxError ? "what it says is no JSON" : reasonOf(error);
    return { kind: "no-answer", reason: `${at}: ${reason}` };
  }
}

async function get(
  listen: ListenAddress,
  timeoutMs: number,
): Promise<{ readonly status: number; readonly body: string }> {
  const where =
    listen.kind === "unix"
      ? { socketPath: listen.path }
      : listen.kind === "tcp"
        ? { host: reachable(listen.host), port: listen.port }
        : {};
  using limit = deadline(timeoutMs);
  return await new Promise((resolve, reject) => {
    const call = http.request({ ...where, path: "/status.json", signal: limit.signal, agent: false });
    call.on("error", reject);
    call.on("response", (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("error", reject);
      response.on("data", (text: string) => {
        body += text;
        if (body.length > ANSWER_BYTES_MAX) response.destroy(new Error("the answer is too large"));
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    call.end();
  });
}

/** A receiver that listens on every interface is asked on loopback. */
function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "localhost" : host;
}

function isStatus(value: unknown): value is StatusDocument {
  return typeof value === "object" && value !== null && "cluster" in value && "storedLsn" in value && "state" in value;
}

function isOverview(value: unknown): value is StatusOverview {
  if (typeof value !== "object" || value === null || !("clusters" in value)) return false;
  return Array.isArray(value.clusters) && value.clusters.every(isStatus);
}

/** Completes the answer of a receiver of an older version: it lacks the judgement and some of the facts behind it. */
function completed(answer: StatusDocument): StatusDocument {
  const status = { ...NOT_SENT, ...answer };
  if ("health" in status) return status;
  const older: Omit<StatusDocument, "health" | "limits" | "slotHealth" | "notReceivingSince"> = status;
  const unknown = { slotHealth: null, notReceivingSince: null, limits: OLDER_LIMITS };
  return judged({
    ...older,
    ...unknown,
    gaps: older.gaps.map((gap) => ({ ...gap, coveredBy: null, lastCommitAt: null })),
  });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "AbortError" || error.name === "TimeoutError") return "no answer in time";
  const code = "code" in error ? String(error.code) : "";
  if (code === "ECONNREFUSED" || code === "ENOENT") return "no process listens there";
  return error.message;
}
