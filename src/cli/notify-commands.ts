/** The command that tests notifications: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, OPERATIONAL } from "./command-spec.ts";

export const NOTIFY_COMMANDS = {
  "notify-test": {
    summary: "send a test message to the webhook and the command that the daemon notifies",
    description:
      "Sends one message with the event `test` once over every configured channel, and prints the answers. " +
      "The daemon (`seawall receive`) sends the real messages, with retries; docs/notifications.md lists them.",
    args: [],
    examples: [
      { line: "seawall notify-test --config /etc/seawall.yaml", does: "over the channels of the file" },
      { line: "seawall notify-test --notify-command /usr/local/bin/on-seawall", does: "a program of your own" },
      {
        line: "SEAWALL_NOTIFY_URL=https://hooks.example.com/x seawall notify-test --json",
        does: "a webhook; body and answer as JSON",
      },
    ],
    exits: [
      [EXIT.done, "every channel has accepted the message"],
      [EXIT.no, "at least one has not"],
      [EXIT.usage, "no channel is configured, or wrong options, environment or configuration file"],
      OPERATIONAL,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/notify-test.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
