/** The channels of a cluster, and its notifier, from its settings. */
import { access, constants } from "node:fs/promises";
import { hostname } from "node:os";
import type { ToldNotice } from "../../archive/records/notices.ts";
import { NOTIFY_OPTIONS } from "../../config/notify-options.ts";
import type { Settings } from "../../config/options.ts";
import { type Log, redactSecrets } from "../../log.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import type { Store } from "../../store/store.ts";
import { scrubber } from "./notice.ts";
import { Notifier, type NotifierTuning } from "./notifier.ts";
import type { Deliver } from "./attempt.ts";
import { Channel, type ChannelName } from "./channel.ts";
import { commandHook } from "./command.ts";
import { webhook } from "./webhook.ts";

export interface NotifySource {
  readonly settings: Settings;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

/** The configured channels, in the order in which they are used. */
export function configuredChannels({ settings, env, version }: NotifySource): [ChannelName, Deliver][] {
  const { notifyUrl: url, notifyHeader: header, notifyCommand: path } = settings;
  const nowMs = (): number => Date.now();
  return [
    ...(url === undefined ? [] : [["webhook", webhook({ url, header, version, nowMs })] as [ChannelName, Deliver]]),
    ...(path === undefined ? [] : [["command", commandHook({ path, env })] as [ChannelName, Deliver]]),
  ];
}

export interface NotifierSource extends NotifySource {
  readonly connection: ConnectionSettings;
  readonly store: Store;
  readonly log: Log;
  readonly memory?: ToldNotice[] | undefined;
}

export function buildNotifier(source: NotifierSource): Notifier {
  const { settings, store, log, memory } = source;
  const options = { cluster: settings.cluster, host: hostname(), store, log, memory, nowMs: () => Date.now() };
  return new Notifier(options, tuningOf(source));
}

/** The notifier's settings that a reload may change. */
export function tuningOf(source: Omit<NotifierSource, "store">): NotifierTuning {
  const { settings, log } = source;
  // Made anew for each text: the password may have been changed in its file.
  const scrub = (text: string): string => secretsScrubber(source)(text);
  const nowMs = (): number => Date.now();
  const channels = configuredChannels(source).map(
    ([name, deliver]) => new Channel({ name, deliver, scrub, log, nowMs, random: Math.random }),
  );
  return {
    events: settings.notifyEvents,
    channels,
    scrub,
    notifyAfterMs: settings.notifyAfterMs,
  };
}

/** A hook that cannot be run: better said now than when it is needed. WAL is archived all the same. */
export async function foreseeHook({ notifyCommand }: Settings, log: Log): Promise<void> {
  if (notifyCommand === undefined) return;
  try {
    await access(notifyCommand, constants.X_OK);
  } catch (error) {
    log.warn("notifications will not arrive: --notify-command cannot be run", { notifyCommand, error });
  }
}

export function changesNotifying(before: Settings, after: Settings): boolean {
  // The table is the only source of the keys.
  return (Object.keys(NOTIFY_OPTIONS) as (keyof typeof NOTIFY_OPTIONS)[]).some((key) => before[key] !== after[key]);
}

/** Removes secrets from texts. Errors quote servers and stores, and one of them may repeat a secret. */
export function secretsScrubber({
  settings,
  env,
  connection,
}: Pick<NotifySource, "settings" | "env"> & { readonly connection?: ConnectionSettings }): (text: string) => string {
  const { notifyUrl, notifyHeader } = settings;
  const url = notifyUrl === undefined ? undefined : new URL(notifyUrl);
  const databases = ["replication"];
  return scrubber(
    [
      notifyUrl,
      url?.href,
      url?.username,
      url?.password,
      url === undefined ? undefined : `${url.pathname}${url.search}`,
      ...(url === undefined ? [] : wordsOf(url)),
      notifyHeader,
      notifyHeader?.slice(notifyHeader.indexOf(":") + 1).trim(),
      ...(notifyHeader?.split(/[\s,]+/).filter((word) => word.length > TOKEN_LENGTH_MIN) ?? []),
      ...(connection?.values.hosts.map((target) => connection.passwordFor(target, databases).password) ?? []),
      connection?.sslPassword,
      ...["PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map((name) => env[name]),
    ],
    redactSecrets,
  );
}

/** A hook may repeat only the token of its address: a part of its path, or a parameter; as it was sent, or decoded. */
function wordsOf({ pathname, search, searchParams }: URL): string[] {
  const parts = [...pathname.split("/"), ...search.split(/[?&=]/)];
  const decoded = parts.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return [...parts, ...decoded, ...searchParams.values()].filter((word) => word.length > TOKEN_LENGTH_MIN);
}

/** A shorter word of a header, such as `Bearer`, is no token. */
const TOKEN_LENGTH_MIN = 10;
