/**
 * `seawall notify-test`: sends one message, marked as a test, over every configured channel, and prints the answers.
 */
import { hostname } from "node:os";
import { bodyOf, type Notice } from "../../daemon/notify/notice.ts";
import { shownAnswer } from "../../daemon/notify/attempt.ts";
import { configuredChannels, secretsScrubber } from "../../daemon/notify/notify.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import type { CommandContext } from "../context.ts";
import { seawallVersion } from "./version.ts";
import { painted } from "../views/painted.ts";
import { columns } from "../views/layout.ts";

/** Clusters whose channels are tried at the same time. */
const TESTS_MAX = 8;

export const run = onClusters(tested, { inFlight: TESTS_MAX });

async function tested(context: CommandContext): Promise<Report> {
  const { settings, env, signals, io } = context;
  const source = { settings, env, version: seawallVersion() };
  const channels = configuredChannels(source);
  if (channels.length === 0) {
    throw new SeawallError("usage", "there is no channel to notify", {
      hint: "Give --notify-url, --notify-command or both, or name the daemon's file with --config.",
    });
  }
  const scrub = secretsScrubber(source);
  const { cluster } = settings;
  const body = bodyOf(testNotice(new Date()), { cluster, systemIdentifier: null, host: hostname(), scrub });
  const { event, severity } = body;
  const message = { event, cluster, severity, body: `${JSON.stringify(body)}\n` };
  const results = await Promise.all(
    channels.map(async ([channel, deliver]) => {
      const { outcome, detail } = await deliver(message, signals.stop);
      return { channel, ok: outcome === "accepted", answer: shownAnswer(detail, scrub) };
    }),
  );
  if (signals.stop.aborted) throw new SeawallError("aborted", "the test was cancelled", { cause: signals.stop.reason });
  const ok = results.every((result) => result.ok);
  const rows = results.map(({ channel, ok: accepted, answer }) => [
    painted(accepted ? "accepted" : "failed", accepted ? "green" : "red", io.colours),
    channel,
    answer,
  ]);
  return { json: { ok, body, results }, text: columns(rows, io.width).join("\n"), exit: ok ? EXIT.done : EXIT.no };
}

function testNotice(at: Date): Notice {
  const text = "this is a test of the notifications; nothing is wrong";
  return { event: "test", subject: "test", kind: "state", state: "test", at, text, details: {} };
}
