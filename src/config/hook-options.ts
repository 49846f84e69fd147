/** The options of the hook around backup, restore and expire: a part of the one table (options.ts). */
import { program } from "./notify-options.ts";
import { type CommandName, option } from "./option-spec.ts";
import { duration } from "./types.ts";

/** The commands that a hook stands around. */
export const HOOKED: readonly CommandName[] = ["backup", "restore", "expire"];

const MINUTE = 60_000;

export const HOOK_OPTIONS = {
  hook: option(program, {
    commands: HOOKED,
    help: "program that is run before and after the command, with a JSON body on its standard input",
    more: "It gets `SEAWALL_EVENT`: `before-backup`, `after-backup`, and likewise for `restore` and `expire`. If it fails before the command, the command does not begin; if it fails after it, that is a warning. In the file it holds for scheduled jobs too. It is run without a shell, with the environment of `notify-command`.",
  }),
  hookTimeoutMs: option(duration({ min: 1000, max: 24 * 60 * MINUTE }), {
    commands: HOOKED,
    default: 10 * MINUTE,
    help: "a hook that takes longer is killed, and has failed",
  }),
} as const;
