/** docs/notifications.md, made from the table of events and what the channels do. */
import { NOTICE_EVENTS, type NoticeEvent } from "../src/config/notify-events.ts";
import { bodyOf } from "../src/daemon/notify/notice.ts";
import { TRIES_MAX, TRY_FOR_MS, WAITING_MAX } from "../src/daemon/notify/channel.ts";
import { COMMAND_TIMEOUT_MS } from "../src/daemon/notify/command.ts";
import { WEBHOOK_TIMEOUT_MS } from "../src/daemon/notify/webhook.ts";

/** Without the line that says where it is made. */
export function notificationsPage(): string {
  const rows = Object.entries<NoticeEvent>(NOTICE_EVENTS).map(
    ([name, { severity, when }]) => `| [\`${name}\`](#${name}) | ${severity} | ${when} |`,
  );
  return `
# Notifications

\`seawall receive\` tells what goes wrong, and that it is well again, to a webhook (\`notify-url\`), to a program of yours
(\`notify-command\`), or to both. It supplements the alert rules (\`deploy/prometheus\`): what has to be noticed even when this
daemon or its machine is gone needs a watch from outside.

\`\`\`yaml
notify-url: https://hooks.example.com/services/…
notify-header: "Authorization: Bearer …"
notify-command: /usr/local/bin/on-seawall
notify-events: -drill-passed
notify-after: 2m
\`\`\`

\`seawall notify-test --config /etc/seawall.yaml\` sends a message with the event \`test\` and prints what came back.

Of several clusters ([many-clusters.md](many-clusters.md)) each tells for itself: options at the top of the file are for all,
below a cluster's name for that one. A reload of the file changes them without touching the stream.

Jobs that are run by hand or from cron (\`seawall backup\`, \`seawall drill\`) send no notification: their exit status says what
came of them. The daemon's own runs do.

## What is told

| event | severity | when |
| --- | --- | --- |
${rows.join("\n")}

A trouble is told once, not at each retry; again after a day while it lasts; and its end is told when the trouble was. What was
told is kept in the store (\`notices/\`, [archive-format.md](archive-format.md)), so that a daemon that is started again and
again does not repeat it; while the store does not answer, or has the archive of another cluster, it may. A second daemon that waits for the slot is not receiving, and
says so after \`notify-after\`: give it \`notify-events: -receiver-stalled\`.

## The body

JSON, the same for both channels. Members are added, never changed or removed; \`version\` would change if they were.

\`\`\`json
${JSON.stringify(EXAMPLE, undefined, 2)}
\`\`\`

- \`id\`: the same each time the same message is tried. A receiver that has seen it can drop it.
- \`severity\`: \`critical\` (WAL or the ability to restore is at stake: look now), \`warning\`, \`info\`.
- \`systemIdentifier\`: of the cluster, or null before the first connection.
- \`at\`: when it happened; \`host\`: on which machine the daemon runs.
- \`text\`: one sentence. Chat services that show the member \`text\` take the body as it is.
- \`details\`: facts for machines, by event, below. LSNs are text, times ISO 8601 in UTC.

There are no secrets in it: no passwords, no credentials of the store, neither the URL nor the header of the webhook.

## The webhook

A POST with \`Content-Type: application/json\`. Any status from 200 to 299 accepts it. Redirects are not followed. No answer
within ${WEBHOOK_TIMEOUT_MS / 1000} s, a broken connection, 408, 429 and 5xx are tried again with growing pauses, after \`Retry-After\` where
that is given, at most ${TRIES_MAX} times and for ${TRY_FOR_MS / 60_000} minutes; any other status is final. Messages arrive in order; while one is
tried again, up to ${WAITING_MAX} wait, and beyond that the oldest are left out.

The daemon connects directly, never through a proxy; where there has to be one, a \`notify-command\` can call \`curl\`.
Certificates are checked against the authorities of Node.js and those of \`NODE_EXTRA_CA_CERTS\`.

## The command

It is run without a shell and without arguments, in \`/\`, with the body on standard input. Its environment is \`PATH\`, \`HOME\`,
\`LANG\`, \`LC_ALL\`, \`TZ\` as the daemon has them, and \`SEAWALL_EVENT\`, \`SEAWALL_CLUSTER\`, \`SEAWALL_SEVERITY\`. Exit status 0
accepts the message, anything else is tried again as above. After ${COMMAND_TIMEOUT_MS / 1000} s it is killed, with all that it has started.
The beginning of its standard error is logged. Under the unit in \`deploy/systemd\` it has the unit's limits: it can write
nothing below \`/usr\`, \`/etc\` or \`/home\`, and a setuid program such as \`sendmail\` gets no other rights.

## When it does not work

\`seawall_notifications_total\` counts messages by channel and outcome (alert \`SeawallNotificationsFailing\`); \`seawall status\`
shows the last failure of each channel, the log every one. A stop waits up to 3 s for what is still to be delivered; a daemon
that ends by an error waits 15 s.

## Details

${Object.entries<NoticeEvent>(NOTICE_EVENTS)
  .map(([name, { details }]) => detailsSection(name, details))
  .join("\n")}`;
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
