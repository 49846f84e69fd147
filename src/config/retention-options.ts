/** The options of the commands that keep and drop backups: a part of the one table (options.ts). */
import { option } from "./option-spec.ts";
import { nameMatching, text } from "./types.ts";

const pinNote = nameMatching(/^\P{Cc}{1,500}$/u, "1 to 500 characters without line breaks");

export const RETENTION_OPTIONS = {
  until: option(text("when"), {
    name: "until",
    commands: ["pin"],
    flagOnly: true,
    help: "when the pin runs out: 2027-12-31, 2027-12-31T18:00:00+01:00, or 14d from now; never, without it",
    more: "A date alone means its end, in UTC.",
  }),
  note: option(pinNote, {
    name: "note",
    commands: ["pin"],
    flagOnly: true,
    help: "why it is kept, for whoever looks at the pin later",
  }),
} as const;
