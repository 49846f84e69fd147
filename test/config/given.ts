/** What a command was given, as a test writes it down. */
import { loadSettings, type LoadInput } from "../../src/config/load.ts";
import type { CommandName } from "../../src/config/options.ts";
import { SeawallError } from "../../src/errors.ts";

export interface Given {
  readonly command?: CommandName;
  readonly flags?: Readonly<Record<string, string | boolean>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Content of the file that --config names. */
  readonly file?: string;
}

function input(given: Given): LoadInput {
  const flags = new Map(Object.entries(given.flags ?? {}));
  if (given.file !== undefined) flags.set("config", "seawall.yaml");
  return {
    command: given.command ?? "receive",
    flags,
    env: given.env ?? {},
    readFile: async (path) => {
      if (given.file === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`);
      return given.file;
    },
  };
}

export const load = (given: Given): ReturnType<typeof loadSettings> => loadSettings(input(given));

export async function refusal(given: Given): Promise<SeawallError> {
  try {
    await load(given);
  } catch (error) {
    if (error instanceof SeawallError) return error;
    throw error;
  }
  throw new Error("the input was accepted");
}
