/** The blocks of docs/notifications.md: the events, an example, the limits of the channels. */
import { NOTICE_EVENTS, type NoticeEvent } from "../src/config/notify-events.ts";
import { bodyOf } from "../src/daemon/notify/notice.ts";
import { TRIES_MAX, TRY_FOR_MS, WAITING_MAX } from "../src/daemon/notify/channel.ts";
import { COMMAND_TIMEOUT_MS } from "../src/daemon/notify/command.ts";
import { WEBHOOK_TIMEOUT_MS } from "../src/daemon/notify/webhook.ts";
import type { Blocks } from "./generated-blocks.ts";

export function notificationBlocks(): Blocks {
  const events = Object.entries<NoticeEvent>(NOTICE_EVENTS);
  const rows = events.map(([name, { severity, when }]) => `| [\`${name}\`](#${name}) | ${severity} | ${when} |`);
  const table = ["| event | severity | when |", "| --- | --- | --- |", ...rows];
  return {
    events: { source: "src/config/notify-events.ts", content: table.join("\n") },
    body: {
      source: "src/daemon/notify/notice.ts",
      content: `\`\`\`json\n${JSON.stringify(EXAMPLE, undefined, 2)}\n\`\`\``,
    },
    limits: { source: "src/daemon/notify/", content: limits() },
    details: {
      source: "src/config/notify-events.ts",
      content: events
        .map(([name, { details }]) => detailsSection(name, details))
        .join("\n")
        .trimEnd(),
    },
  };
}

function limits(): string {
  const rows: readonly (readonly [string, string])[] = [
    ["an answer of the webhook", `${WEBHOOK_TIMEOUT_MS / 1000} s`],
    ["a run of the command", `${COMMAND_TIMEOUT_MS / 1000} s`],
    ["tries of one message", `${TRIES_MAX}`],
    ["time for all tries of one message", `${TRY_FOR_MS / 60_000} minutes`],
    ["messages that wait behind it", `${WAITING_MAX}`],
  ];
  return ["| limit | value |", "| --- | ---: |", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
}

const EXAMPLE = bodyOf(
  {
    event: "gap-recorded",
    subject: "gap 1 16/B3000000 16/B5000000",
    kind: "once",
    state: "recorded",
    at: new Date("2026-11-20T10:00:00.500Z"),
    text: "WAL from 16/B3000000 to 16/B5000000 on timeline 1 was lost before it could be archived; take a base backup now",
    details: {
      timeline: 1,
      fromLsn: "16/B3000000",
      toLsn: "16/B5000000",
      detectedAt: "2026-11-20T10:00:00.500Z",
      reason: "requested WAL segment 0000000100000016000000B3 has already been removed",
    },
  },
  { cluster: "orders", systemIdentifier: "7301234567890123456", host: "db1", scrub: (text) => text },
);

function detailsSection(name: string, details: NoticeEvent["details"]): string {
  const members = Object.entries(details).map(([member, meaning]) => `- \`${member}\`: ${meaning}`);
  return `### ${name}\n\n${members.length === 0 ? "No members." : members.join("\n")}\n`;
}
