/**
 * The heartbeat: a POST to `heartbeat-url` at every interval, as long as the cluster's health is not critical. The service behind
 * it raises the alarm when it stops, so a failed one is not tried again before the next is due.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Settings } from "../../config/options.ts";
import type { Log } from "../../log.ts";
import type { StatusDocument } from "../status/document.ts";
import { shownAnswer } from "./attempt.ts";
import { secretsScrubber } from "./notify.ts";
import { webhook } from "./webhook.ts";

export interface HeartbeatOptions {
  /** Asked before each one: a reload may have changed them. */
  readonly settings: () => Settings;
  readonly status: () => StatusDocument;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly log: Log;
}

/** Without a URL, a reload is noticed this late. */
const IDLE_MS = 1_000;

/** Runs until the signal; resolves always. Each failure in a row is said once. */
export async function sendHeartbeats(options: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  const { settings, status, env, version, log } = options;
  let isFailing = false;
  while (!signal.aborted) {
    const { heartbeatUrl: url, heartbeatIntervalMs } = settings();
    const begunMs = performance.now();
    const document = status();
    if (url !== undefined && document.health.status !== "critical") {
      const { cluster, health, storedLsn, at } = document;
      const body = `${JSON.stringify({ version: 1, cluster, health: health.status, storedLsn, at })}\n`;
      const message = { event: "heartbeat", cluster, severity: "info", body };
      const deliver = webhook({ url, header: undefined, version, nowMs: () => Date.now() });
      const { outcome, detail } = await deliver(message, signal);
      if (signal.aborted) return;
      const hasFailed = outcome !== "accepted";
      const scrub = secretsScrubber({ settings: { ...settings(), notifyUrl: url }, env });
      if (hasFailed && !isFailing) log.warn("the heartbeat was not accepted", { reason: shownAnswer(detail, scrub) });
      if (!hasFailed && isFailing) log.info("the heartbeat is accepted again");
      isFailing = hasFailed;
    }
    const spentMs = performance.now() - begunMs;
    const pauseMs = url === undefined ? IDLE_MS : Math.max(0, heartbeatIntervalMs - spentMs);
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}
