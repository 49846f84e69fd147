/** The options of the daemon's notifications: a part of the one table (options.ts). */
import { isNoticeEvent, NOTICE_EVENT_NAMES } from "./notify-events.ts";
import { type CommandName, option } from "./option-spec.ts";
import { BadValue, duration, type ValueType } from "./types.ts";

const NOTIFYING: readonly CommandName[] = ["receive", "notify-test"];

const webhookUrl: ValueType<string> = {
  type: "url",
  placeholder: "url",
  accepts: "an http or https URL",
  parse: (value) => {
    // The value may be a secret: it is not repeated.
    const url = URL.canParse(value) ? new URL(value) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol)) {
      throw new BadValue("the value is not an http or https URL", "Write https://host/path.");
    }
    return value;
  },
};

/** Headers that the request sets itself; options may not set them. */
const OWN_HEADERS = /^(host|connection|content-.*|transfer-encoding|expect|upgrade|te|trailer)$/i;

const header: ValueType<string> = {
  type: "string",
  placeholder: "header",
  accepts: "one header: `Name: value`",
  parse: (value) => {
    const [, name = "", content = ""] =
      /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e][\x20-\x7e]*)$/.exec(value) ?? [];
    if (name === "") throw new BadValue("the value is not a header", 'Write "Authorization: Bearer …" on one line.');
    if (OWN_HEADERS.test(name)) throw new BadValue(`${name} cannot be set`, "Leave it out: it follows from the body.");
    return `${name}: ${content.trimEnd()}`;
  },
};

export const program: ValueType<string> = {
  type: "path",
  placeholder: "file",
  accepts: "an absolute path, without arguments",
  parse: (value) => {
    if (!value.startsWith("/") || value.includes("\0")) {
      throw new BadValue(`"${value}" is not an absolute path`, "Name a program or script: /usr/local/bin/on-seawall.");
    }
    return value;
  },
};

const events: ValueType<string> = {
  type: "string",
  placeholder: "events",
  accepts: "`all`, or names separated by commas; with a minus in front of each: all but these",
  parse: (value) => {
    const names = value.split(",").map((name) => name.trim());
    const excluded = names.filter((name) => name.startsWith("-")).length;
    if (names.length === 1 && names[0] === "all") return "all";
    const unknown = names.find((name) => !isNoticeEvent(name.replace(/^-/, "")));
    if (unknown !== undefined) {
      throw new BadValue(`"${unknown}" is no event`, `Events are ${NOTICE_EVENT_NAMES.join(", ")}; or all.`);
    }
    if (excluded !== 0 && excluded !== names.length) {
      throw new BadValue("some names have a minus and some have not", "Name what you want, or what you do not want.");
    }
    return names.join(",");
  },
};

export const NOTIFY_OPTIONS = {
  notifyUrl: option(webhookUrl, {
    commands: NOTIFYING,
    routine: true,
    help: "webhook that gets a POST with a JSON body when something happens (docs/notifications.md)",
    more: "Chat services that show the member `text` of a body take it as it is. Keep it in the environment or the file: on the command line it shows in the process list.",
    secret: true,
  }),
  notifyHeader: option(header, {
    commands: NOTIFYING,
    routine: true,
    help: 'one more header for the webhook, such as "Authorization: Bearer …"',
    secret: true,
  }),
  notifyCommand: option(program, {
    commands: NOTIFYING,
    routine: true,
    help: "program that is run when something happens, with the same JSON body on its standard input",
    more: "It is run without a shell and without our environment: it gets `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, and `SEAWALL_EVENT`, `SEAWALL_CLUSTER`, `SEAWALL_SEVERITY`. An exit status other than 0 is tried again; after 30 s it is killed.",
  }),
  heartbeatUrl: option(webhookUrl, {
    commands: ["receive"],
    routine: true,
    help: "address (a URL) that gets a POST as long as the cluster's health is not critical",
    more: "A service that misses it raises the alarm, also when this machine is gone. Keep it in the environment or the file, as its path is often a secret.",
    secret: true,
  }),
  heartbeatIntervalMs: option(duration({ min: 1000, max: 86_400_000 }), {
    commands: ["receive"],
    routine: true,
    default: 60_000,
    help: "time between two heartbeats",
  }),
  notifyEvents: option(events, {
    commands: ["receive"],
    routine: true,
    default: "all",
    help: "which events are reported",
    more: `Events are ${NOTICE_EVENT_NAMES.map((name) => `\`${name}\``).join(", ")}. \`-drill-passed\` is all but that one.`,
  }),
  notifyAfterMs: option(duration({ min: 1000, max: 86_400_000 }), {
    commands: ["receive"],
    routine: true,
    default: 120_000,
    help: "how long receiving or storing may stand still before a message is sent",
    more: "Choose it longer than a restart of the server or a short outage of the store, plus a ship interval.",
  }),
} as const;
